// Clients of the pages of ../origins/versions.js, all kinds at once: `node of_versions.js SECONDS HTTP_URL HTTPS_URL SEED`.
// Over HTTP/1.1 and HTTP/2, cleartext and TLS; with every kind of `Accept-Encoding`, with ranges and HEAD, with and
// without cookies; some leave in the middle. Each answer must be a page that the origin has had, whole, for this client,
// in a coding that it takes, and no older than it may be. Prints one line of JSON: how many answers of which kind there
// were, and the first of those that were wrong.
'use strict'
const http = require('node:http')
const http2 = require('node:http2')
const https = require('node:https')
const zlib = require('node:zlib')
const { KINDS, page, period, version, whose } = require('../origins/versions.js')

const [seconds, cleartext, encrypted, seed] = process.argv.slice(2)
const end = Date.now() + Number(seconds) * 1000
const SIZES = [10, 300, 3_000, 30_000, 200_000, 700_000, 1_500_000]
const NUMBERS = 2
const PATIENCE = 20_000
/// How long an answer may take on a busy machine before its age says nothing, in milliseconds.
const PROMPT = 500
const OFFERS = [undefined, 'gzip', 'br', 'gzip, br', 'br;q=0.5, gzip', 'identity', '*', 'gzip;q=0', 'x-none']
const RANGES = [undefined, undefined, undefined, 'bytes=0-5', 'bytes=3-', 'bytes=-7']

const counts = {}
const wrong = []
let draws = Number(seed)

/// From 0 to 1.
function draw() {
  draws = (Math.imul(draws, 1664525) + 1013904223) >>> 0
  return draws / 2 ** 32
}

function one(list) {
  return list[Math.floor(draw() * list.length)]
}

function count(what) {
  counts[what] = (counts[what] ?? 0) + 1
}

function ask() {
  const kind = one(Object.keys(KINDS))
  const size = one(SIZES)
  const number = Math.floor(draw() * NUMBERS)
  const headers = { 'accept-encoding': one(OFFERS), range: one(RANGES) }
  if (kind === 'varies') headers['x-tenant'] = one([undefined, 'a', 'b'])
  if (kind === 'cookie') headers.cookie = one([undefined, 's=1', 's=2'])
  for (const name of Object.keys(headers)) if (headers[name] === undefined) delete headers[name]
  const method = draw() < 0.1 ? 'HEAD' : 'GET'
  return { kind, size, number, headers, method, path: `/${kind}/${size}/${number}`, began: Date.now(), leaves: draw() < 0.03 }
}

function takes(offer, coding) {
  if (coding === undefined) return true
  const weights = new Map((offer ?? '').split(',').map((member) => {
    const [name, weight] = member.trim().split(';q=')
    return [name, Number(weight ?? 1)]
  }))
  return (weights.get(coding) ?? weights.get('*') ?? 0) > 0
}

function decoded(coding, body) {
  if (coding === 'gzip') return zlib.gunzipSync(body)
  if (coding === 'br') return zlib.brotliDecompressSync(body)
  return body
}

/// Why an answer is wrong, if it is.
function fault(asked, { status, headers, body }) {
  const { kind, size, number } = asked
  const owner = whose(kind, asked.headers)
  const told = headers['cache-status'] ?? ''
  if (status === 503 && kind === 'fails') return undefined
  if ((status === 502 || status === 504) && ['gzip', 'breaks'].includes(kind)) return undefined
  if (status === 416 || status === 304) return 'a status that makes no sense'
  if (status !== 200 && status !== 206) return `status ${status}`
  const coding = headers['content-encoding']
  if (!takes(asked.headers['accept-encoding'], coding)) {
    // What is passed on is as the origin has it.
    return told.includes('detail=') ? undefined : `the client does not take ${coding}`
  }
  if (asked.method === 'HEAD') return undefined
  const whole = Number(headers['content-length'] ?? body.length)
  if (whole !== body.length) return `${body.length} bytes of ${whole}`
  const newest = version(number)
  if (status === 206) {
    if (coding !== undefined) return undefined
    const [, first, last] = /^bytes (\d+)-(\d+)\//.exec(headers['content-range'])
    for (let past = 0; past < 20; past += 1) {
      const was = page(kind, size, number, newest - past, owner)
      if (was.subarray(Number(first), Number(last) + 1).equals(body)) return undefined
    }
    return 'a part of no page'
  }
  let plain
  try {
    plain = decoded(coding, body)
  } catch (error) {
    return `no ${coding}: ${error.message}`
  }
  const said = /version (\d+) for/.exec(plain.subarray(0, 100).toString())
  if (!said) return 'no page at all'
  if (!plain.equals(page(kind, size, number, Number(said[1]), owner))) return 'another page, or not all of it'
  const took = Date.now() - asked.began
  const age = asked.began - (Number(said[1]) + 1) * period(number)
  // Seconds are counted whole, and pages that are on their way are no older than those that are here.
  const allowed = (KINDS[kind].maxAge + (KINDS[kind].stale ?? 0) + 1) * 1000 + PROMPT
  return took < PROMPT && age > allowed ? `${age} ms too old for ${allowed}` : undefined
}

function judge(asked, answer) {
  const told = (answer.headers['cache-status'] ?? 'none').split(';')
  count((told[1] ?? told[0]).trim())
  const why = fault(asked, answer)
  if (why === undefined) return count('right')
  count('wrong')
  if (wrong.length < 10) {
    const { status, headers, body } = answer
    wrong.push({ why, asked, status, headers, length: body.length, begin: body.subarray(0, 60).toString('latin1') })
  }
}

async function overHttp1(base, library) {
  const agent = new library.Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false })
  while (Date.now() < end) {
    const asked = ask()
    await new Promise((done) => {
      const { method, headers, path } = asked
      const request = library.request(base + path, { method, headers, agent, timeout: PATIENCE }, (response) => {
        const pieces = []
        response.on('data', (piece) => pieces.push(piece))
        response.on('error', () => {})
        response.on('close', () => {
          if (response.complete) judge(asked, { status: response.statusCode, headers: response.headers, body: Buffer.concat(pieces) })
          else if (!asked.leaves) broken(asked)
          done()
        })
      })
      request.on('timeout', () => {
        wrong.push({ why: 'no answer', asked })
        request.destroy()
      })
      request.on('error', () => {
        if (!asked.leaves) count('refused')
        done()
      })
      if (asked.leaves) setTimeout(() => request.destroy(), draw() * 30)
      request.end()
    })
  }
  agent.destroy()
}

async function overHttp2(base) {
  const session = http2.connect(base, { rejectUnauthorized: false })
  session.on('error', () => {})
  const stream = async () => {
    while (Date.now() < end) {
      const asked = ask()
      await new Promise((done) => {
        const request = session.request({ ':method': asked.method, ':path': asked.path, ...asked.headers })
        const pieces = []
        let answer
        let isWhole = false
        request.on('response', (headers) => (answer = { status: headers[':status'], headers }))
        request.on('data', (piece) => pieces.push(piece))
        request.on('end', () => (isWhole = !request.aborted && request.rstCode === 0))
        request.on('error', () => {})
        request.on('close', () => {
          if (answer && isWhole && request.rstCode === 0) judge(asked, { ...answer, body: Buffer.concat(pieces) })
          else if (!asked.leaves) broken(asked)
          done()
        })
        request.setTimeout(PATIENCE, () => {
          wrong.push({ why: 'no answer', asked })
          request.close(http2.constants.NGHTTP2_CANCEL)
        })
        if (asked.leaves) setTimeout(() => request.close(http2.constants.NGHTTP2_CANCEL), draw() * 30)
        request.end()
      })
    }
  }
  await Promise.all(Array.from({ length: 8 }, stream))
  session.close()
}

/// Only what the origin breaks off may break off.
function broken(asked) {
  count('broken')
  if (!['gzip', 'breaks'].includes(asked.kind)) wrong.push({ why: 'it broke off', asked })
}

const clients = [overHttp2(encrypted), overHttp2(cleartext)]
for (let number = 0; number < 12; number += 1) clients.push(overHttp1(cleartext, http), overHttp1(encrypted, https))
Promise.all(clients).then(() => {
  console.log(JSON.stringify({ counts, wrong }))
  process.exit(0)
})
