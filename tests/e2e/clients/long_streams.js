// Streams that go on and on: `node long_streams.js JSON`, where JSON has lists of urls: `sockets` (WebSockets, which send
// a number every 200 ms and want it back), `events` (server-sent events over HTTP/1.1), `events2` (over HTTP/2, one
// connection for each origin) and `uploads` (10 bytes every 100 ms, chunked). For each line on its input it prints one line of JSON:
// for each stream what it has `moved` so far, and when and how it ended, if it did. A reset is told from an end.
'use strict'
const http = require('node:http')
const http2 = require('node:http2')
const https = require('node:https')
const { WebSocket } = require('ws')

const options = { rejectUnauthorized: false }
const streams = []

function add(kind, url) {
  const stream = { kind, url, open: false, moved: 0, ended: null, how: null }
  streams.push(stream)
  stream.end = (how) => {
    // A reset has the last word: libraries tell of an end first, or of nothing else.
    if (stream.ended === null || how === 'reset') stream.how = how
    stream.ended ??= Date.now()
    clearInterval(stream.timer)
  }
  stream.watch = (socket) => socket.on('error', (error) => stream.end(error.code === 'ECONNRESET' ? 'reset' : error.code))
  return stream
}

function socket(url) {
  const stream = add('socket', url)
  const client = new WebSocket(url, { ...options, perMessageDeflate: false })
  let sent = 0
  client.on('open', () => {
    stream.open = true
    stream.watch(client._socket)
    stream.timer = setInterval(() => client.send(String((sent += 1))), 200)
  })
  client.on('message', (data) => {
    if (Number(data) === stream.moved + 1) stream.moved += 1
    else stream.end(`got ${data} after ${stream.moved}`)
  })
  client.on('error', (error) => stream.end(error.message))
  client.on('close', (code) => stream.end(`closed ${code}`))
}

function count(stream, text) {
  stream.rest = (stream.rest ?? '') + text
  const events = stream.rest.split('\n\n')
  stream.rest = events.pop()
  for (const event of events) {
    const { number } = JSON.parse(event.slice('data: '.length))
    if (number === stream.moved + 1) stream.moved += 1
    else stream.end(`got event ${number} after ${stream.moved}`)
  }
}

function events(url) {
  const stream = add('events', url)
  const library = url.startsWith('https:') ? https : http
  const request = library.get(url, { ...options, agent: false }, (response) => {
    stream.open = response.statusCode === 200
    response.setEncoding('utf8').on('data', (text) => count(stream, text))
    response.on('end', () => stream.end('end'))
    response.on('error', () => stream.end('broken off'))
  })
  request.on('socket', stream.watch)
  request.on('error', (error) => stream.end(error.message))
}

const sessions = {}

function events2(url) {
  const stream = add('events2', url)
  const target = new URL(url)
  const session = (sessions[target.origin] ??= http2.connect(target.origin, options))
  const request = session.request({ ':path': target.pathname + target.search })
  let ended = false
  request.on('response', (fields) => (stream.open = fields[':status'] === 200))
  request.setEncoding('utf8').on('data', (text) => count(stream, text))
  request.on('end', () => (ended = true))
  request.on('error', () => {})
  request.on('close', () => stream.end(ended && request.rstCode === 0 ? 'end' : 'reset'))
}

function upload(url) {
  const stream = add('upload', url)
  const library = url.startsWith('https:') ? https : http
  const request = library.request(url, { ...options, agent: false, method: 'POST' }, (response) => {
    response.resume()
    const told = [response.statusCode, response.headers['retry-after'] ? 'retry-after' : '', response.headers.connection]
    response.on('end', () => stream.end(told.filter(Boolean).join(' ')))
  })
  request.on('socket', (socket) => {
    stream.open = true
    stream.watch(socket)
  })
  request.on('error', (error) => stream.end(error.code ?? error.message))
  stream.timer = setInterval(() => {
    request.write('0123456789')
    stream.moved += 10
  }, 100)
}

process.stdin.resume().setEncoding('utf8').on('data', (lines) => {
  for (let line = 0; line < lines.split('\n').length - 1; line += 1) {
    console.log(JSON.stringify(streams.map(({ kind, url, open, moved, ended, how }) => ({ kind, url, open, moved, ended, how }))))
  }
})
process.stdin.on('end', () => process.exit(0))

const wanted = JSON.parse(process.argv[2])
wanted.sockets.forEach(socket)
wanted.events.forEach(events)
wanted.events2.forEach(events2)
wanted.uploads.forEach(upload)
