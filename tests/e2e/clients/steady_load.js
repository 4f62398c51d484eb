// A steady stream of small GETs in which no failure is lost: `node steady_load.js SECONDS JSON`, where JSON is a list of
// {name, url, http2, connections, rate, fresh}; with `fresh`, each HTTP/1.1 request has a connection of its own. Load
// generators reconnect in silence, or lose a connection and go on with fewer requests; here every request that was due is
// counted, and one that did not end in a whole 200 is a failure. A request that an HTTP/2 connection did not take any more
// because it is ending (RFC 9113 §6.8, §8.7) is sent over another one, as any client does, and counted in `again`. Prints
// one line of JSON for each entry. Latency counts from the moment at which the request was due.
'use strict'
const http = require('node:http')
const http2 = require('node:http2')
const https = require('node:https')

const seconds = Number(process.argv[2])
const BODY = 'hello\n'
const TICK = 2
const PATIENCE = 10_000
const TRIES = 5
const options = { rejectUnauthorized: false }

function overHttp1({ url, connections, fresh }) {
  const target = new URL(url)
  const library = target.protocol === 'https:' ? https : http
  const agent = new library.Agent({ keepAlive: !fresh, maxSockets: connections, ...options })
  const seen = new WeakSet()
  let opened = 0
  const get = (done) => {
    const request = library.get(target, { agent, timeout: PATIENCE, ...options }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (piece) => (body += piece))
      response.on('end', () => done(response.statusCode, body))
      response.on('error', (error) => done(error.code ?? error.message))
    })
    request.on('socket', (socket) => {
      if (!seen.has(socket)) opened += 1
      seen.add(socket)
    })
    request.on('timeout', () => request.destroy(new Error('timeout')))
    request.on('error', (error) => done(error.code ?? error.message))
  }
  return { get, opened: () => opened, again: () => 0, close: () => agent.destroy() }
}

function overHttp2({ url, connections }) {
  const target = new URL(url)
  const sessions = []
  let opened = 0
  let turn = 0
  const open = (place) => {
    opened += 1
    const session = http2.connect(target.origin, options)
    sessions[place] = session
    const replace = () => {
      if (sessions[place] === session) open(place)
    }
    session.on('goaway', replace)
    session.on('close', () => setTimeout(replace, 20))
    session.on('error', () => {})
  }
  for (let place = 0; place < connections; place += 1) open(place)
  let again = 0
  const get = (done, tries = 0) => {
    turn = (turn + 1) % connections
    const elsewhere = (why) => {
      if (tries >= TRIES) return done(why)
      again += 1
      // Not in this turn: the session may not have heard yet of what the connection knows.
      setImmediate(() => get(done, tries + 1))
    }
    let request
    try {
      request = sessions[turn].request({ ':path': target.pathname, ':authority': target.host })
    } catch (error) {
      return error.code === 'ERR_HTTP2_GOAWAY_SESSION' ? elsewhere(error.code) : done(error.code)
    }
    let status
    let body = ''
    let problem = 'closed without an end'
    let ended = false
    request.setTimeout(PATIENCE, () => request.close(http2.constants.NGHTTP2_CANCEL))
    request.on('response', (fields) => (status = fields[':status']))
    request.setEncoding('utf8').on('data', (piece) => (body += piece))
    request.on('end', () => (ended = status !== undefined))
    request.on('error', (error) => (problem = error.message))
    request.on('close', () => {
      if (ended && request.rstCode === 0) done(status, body)
      else if (request.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM) elsewhere(problem)
      else done(problem)
    })
  }
  const close = () => {
    for (const session of sessions.splice(0)) session.destroy()
  }
  return { get, opened: () => opened, again: () => again, close }
}

function start(entry) {
  const client = entry.http2 ? overHttp2(entry) : overHttp1(entry)
  const counts = { name: entry.name, started: 0, succeeded: 0, failed: 0, failures: {}, opened: 0 }
  const latencies = []
  const begin = performance.now()
  const one = (due) => {
    counts.started += 1
    let over = false
    client.get((status, body) => {
      if (over) return
      over = true
      const now = performance.now()
      latencies.push(now - due)
      if (status === 200 && body === BODY) counts.succeeded += 1
      else {
        counts.failed += 1
        const kind = status === 200 ? `200 with ${body.length} bytes` : String(status)
        const failure = (counts.failures[kind] ??= { count: 0, at: [] })
        failure.count += 1
        if (failure.at.length < 5) failure.at.push(Math.round(now - begin))
      }
    })
  }
  const timer = setInterval(() => {
    const elapsed = Math.min(performance.now() - begin, seconds * 1000)
    while (counts.started < (elapsed / 1000) * entry.rate) one(begin + (counts.started / entry.rate) * 1000)
    if (elapsed < seconds * 1000) return
    clearInterval(timer)
    finish(client, counts, latencies)
  }, TICK)
}

function finish(client, counts, latencies) {
  const deadline = performance.now() + PATIENCE
  const timer = setInterval(() => {
    const left = counts.started - counts.succeeded - counts.failed
    if (left > 0 && performance.now() < deadline) return
    clearInterval(timer)
    if (left > 0) {
      counts.failed += left
      counts.failures['no answer'] = { count: left, at: [] }
    }
    latencies.sort((a, b) => a - b)
    counts.opened = client.opened()
    counts.again = client.again()
    counts.milliseconds = {
      p50: latencies[Math.floor(latencies.length * 0.5)], p99: latencies[Math.floor(latencies.length * 0.99)],
      most: latencies.at(-1),
    }
    console.log(JSON.stringify(counts))
    client.close()
  }, 20)
}

JSON.parse(process.argv[3]).forEach(start)
