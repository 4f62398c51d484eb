// An origin that is stopped and killed: `node counted.js PORT NAME LOG`.
// GET answers after a few milliseconds, GET /slow sends its head at once and its body later. POST reads the whole body,
// appends the `id` of its query to LOG (so the id is there whatever happens next), and then takes its time to answer.
// Prints when it began to listen, in seconds since 1970.
// SIGTERM: no new connections, what is there is answered with `Connection: close`, then the process ends.
'use strict'
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')

const [port, name, file] = process.argv.slice(2)
const log = fs.openSync(file, 'a')
// Longer than a proxy may take a connection that was just used for good enough for a POST.
const LINGER = 1500

let stopping = false

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://origin')
  response.setHeader('X-Origin', name)
  if (stopping) response.setHeader('Connection', 'close')
  if (request.method === 'POST') return execute(url.searchParams.get('id'), request, response)
  if (url.pathname === '/healthz') return response.end('well\n')
  if (url.pathname === '/slow') {
    response.setHeader('Content-Length', 6)
    response.flushHeaders()
    return setTimeout(() => response.end('hello\n'), 40)
  }
  setTimeout(() => response.end('hello\n'), 3)
})

function execute(id, request, response) {
  let bytes = 0
  request.on('data', (piece) => (bytes += piece.length))
  request.on('end', () => {
    fs.writeSync(log, `${id} ${bytes}\n`)
    setTimeout(() => response.end(`${id} ${bytes}\n`), 15)
  })
}

process.on('SIGTERM', () => {
  stopping = true
  // Only the listening socket: http's own close() would also cut connections on which a request may be on its way. And
  // only when those that wait in its queue have been accepted, or they would be cut too.
  setImmediate(() => setImmediate(() => net.Server.prototype.close.call(server, () => process.exit(0))))
  setTimeout(() => server.closeIdleConnections(), LINGER)
})

server.requestTimeout = 0
server.keepAliveTimeout = 60_000
server.listen({ port: Number(port), host: '127.0.0.1', backlog: 1024 }, () => console.log(Date.now() / 1000))
