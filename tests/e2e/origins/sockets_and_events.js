// An origin of streams: `node sockets_and_events.js PORT`.
// WebSockets at /socket echo what they get. GET /events?count=N&every=MS sends server-sent events, each with the time
// of its sending. Whatever is sent to /upload is counted. Other requests are told which streams ended and when, by the `id`
// of their query (milliseconds since 1970), which are open, and how many bytes of each upload have come.
'use strict'
const http = require('node:http')
const { WebSocketServer } = require('ws')

const closed = {}
const open = new Set()
const uploaded = {}

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://origin')
  if (url.pathname === '/events') return events(url.searchParams, response)
  if (url.pathname === '/upload') return upload(url.searchParams.get('id'), request, response)
  response.setHeader('Content-Type', 'application/json')
  response.end(JSON.stringify({ closed, open: [...open], uploaded }))
})

function upload(id, request, response) {
  uploaded[id] = 0
  open.add(id)
  request.on('data', (piece) => (uploaded[id] += piece.length))
  request.on('end', () => response.end(`${uploaded[id]}\n`))
  request.on('error', () => {})
  response.on('close', () => ended(id))
}

function events(query, response) {
  const id = query.get('id')
  const last = Number(query.get('count') ?? 20)
  let number = 0
  open.add(id)
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' })
  const send = () => {
    number += 1
    response.write(`data: ${JSON.stringify({ number, at: Date.now() })}\n\n`)
    if (number === last) response.end()
  }
  const timer = setInterval(send, Number(query.get('every') ?? 100))
  response.on('close', () => {
    clearInterval(timer)
    ended(id)
  })
  response.flushHeaders()
}

function ended(id) {
  open.delete(id)
  closed[id] = Date.now()
}

const sockets = new WebSocketServer({ server, path: '/socket', maxPayload: 32 << 20 })
sockets.on('connection', (socket, request) => {
  const id = new URL(request.url, 'http://origin').searchParams.get('id')
  open.add(id)
  socket.on('message', (data, binary) => socket.send(data, { binary }))
  socket.on('error', () => {})
  socket.on('close', () => ended(id))
})

server.keepAliveTimeout = 60_000
server.listen(process.argv[2], '127.0.0.1')
