// An origin whose pages change all the time, in every way that matters to a cache: `node versions.js PORT`.
// `/KIND/SIZE/NUMBER` has a new version every few hundred milliseconds; a page says which it is, and for whom, so that
// whoever gets one can tell whether it is what it must be. Some break off, some fail, and the encoded ones are encoded
// whatever the client takes.
'use strict'
const http = require('node:http')
const zlib = require('node:zlib')

/// How each kind of page may be used, in seconds: `maxAge`, and `stale` beyond that.
const KINDS = {
  length: { maxAge: 1 },
  chunked: { maxAge: 1 },
  tagged: { maxAge: 1 },
  gzip: { maxAge: 1 },
  br: { maxAge: 1 },
  varies: { maxAge: 1 },
  cookie: { maxAge: 0 },
  dynamic: { maxAge: 0 },
  renewed: { maxAge: 1, stale: 2 },
  fails: { maxAge: 1, stale: 3 },
  breaks: { maxAge: 1 },
  closes: { maxAge: 1 },
}
const CACHE_CONTROL = {
  cookie: 'private, max-age=5',
  dynamic: 'no-store',
  renewed: 'max-age=1, stale-while-revalidate=2',
  fails: 'max-age=1, stale-if-error=3',
}

/// How long a version lasts, in milliseconds.
function period(number) {
  return 400 + 300 * (number % 4)
}

function version(number, now = Date.now()) {
  return Math.floor(now / period(number))
}

function page(kind, size, number, version, whose) {
  const head = `${kind}/${size}/${number} version ${version} for ${whose}|`
  const line = `${(version * 7919 + number) % 1e6} lorem ipsum dolor sit amet\n`
  return Buffer.from(head + line.repeat(Math.ceil(size / line.length)) + '|')
}

/// For whom a page of that kind is.
function whose(kind, headers) {
  if (kind === 'varies') return headers['x-tenant'] ?? 'all'
  if (kind === 'cookie') return headers.cookie ?? 'all'
  return 'all'
}

function answer(request, response) {
  const [, kind, size, number] = request.url.split('/')
  const now = version(Number(number))
  const owner = whose(kind, request.headers)
  let body = page(kind, Number(size), Number(number), now, owner)
  response.setHeader('Content-Type', 'text/plain')
  response.setHeader('Cache-Control', CACHE_CONTROL[kind] ?? 'max-age=1')
  if (kind === 'varies') response.setHeader('Vary', 'X-Tenant')
  if (kind === 'fails' && Math.random() < 0.5) {
    response.removeHeader('Cache-Control')
    response.statusCode = 503
    return response.end('no\n')
  }
  if (['tagged', 'br', 'varies'].includes(kind)) {
    const tag = `"${now}-${owner}"`
    response.setHeader('ETag', tag)
    if (request.headers['if-none-match']?.includes(tag)) {
      response.statusCode = 304
      return response.end()
    }
  }
  if (kind === 'gzip') body = zlib.gzipSync(body, { level: 3 })
  if (kind === 'br') body = zlib.brotliCompressSync(body, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 3 } })
  if (kind === 'gzip' || kind === 'br') response.setHeader('Content-Encoding', kind)
  if (kind === 'closes') response.setHeader('Connection', 'close')
  if (request.method === 'HEAD') return response.end()
  if (['chunked', 'gzip', 'br', 'breaks'].includes(kind)) return pieceByPiece(kind, body, response)
  response.setHeader('Content-Length', body.length)
  response.end(body)
}

function pieceByPiece(kind, body, response) {
  const breaks = kind !== 'br' && kind !== 'chunked' && Math.random() < 0.2
  const end = breaks ? Math.floor(Math.random() * body.length) : body.length
  const step = Math.ceil(body.length / (1 + Math.floor(Math.random() * 5)))
  let sent = 0
  const more = () => {
    if (sent >= end) return breaks ? response.destroy() : response.end()
    response.write(body.subarray(sent, Math.min(sent + step, end)))
    sent += step
    setTimeout(more, Math.random() < 0.5 ? 0 : Math.random() * 30)
  }
  more()
}

module.exports = { KINDS, page, period, version, whose }

if (require.main === module) {
  http.createServer(answer).listen(Number(process.argv[2]), '127.0.0.1')
}
