// An origin on Node's bare http module: `node plain_http.js PORT PAYLOAD`.
// GET /small; GET /download?times=N sends the payload file N times; /upload answers with the hash of the body.
'use strict'
const crypto = require('node:crypto')
const fs = require('node:fs')
const http = require('node:http')

const [port, payload] = process.argv.slice(2)

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://origin')
  response.setHeader('X-Origin', 'node')
  if (url.pathname === '/download') return download(Number(url.searchParams.get('times') ?? 1), response)
  if (url.pathname === '/upload') return upload(request, response)
  response.end('hello from node\n')
})

function download(times, response) {
  const size = fs.statSync(payload).size * times
  response.setHeader('Content-Length', size)
  const next = () => {
    if (times-- === 0) return response.end()
    fs.createReadStream(payload, { highWaterMark: 256 * 1024 }).on('end', next).pipe(response, { end: false })
  }
  next()
}

function upload(request, response) {
  const hash = crypto.createHash('sha256')
  let bytes = 0
  request.on('data', (piece) => {
    hash.update(piece)
    bytes += piece.length
  })
  request.on('end', () => response.end(JSON.stringify({
    bytes, sha256: hash.digest('hex'), version: request.httpVersion, coding: request.headers['transfer-encoding'],
  })))
}

server.requestTimeout = 0
server.keepAliveTimeout = 60_000
server.listen(port, '127.0.0.1')
