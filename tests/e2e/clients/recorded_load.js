// A constant rate of requests of which each one is written down: `node recorded_load.js JSON FILE`, where JSON has the
// `url`, the number of `connections`, the `rate` per second and the share of `posts`. Open loop: a request is sent when it
// is due, whatever became of those before. Every 50th GET asks for /slow; POSTs carry an `id` and a body of 10 bytes to
// 20 kB. Ends at SIGTERM, when the last answer has come or the patience is over.
//
// FILE gets one line for each request, separated by tabs: when it was due and when it was over (seconds since 1970),
// method, id, status (0: none came), whether it was whole, X-Origin, Proxy-Status, what went wrong.
'use strict'
const fs = require('node:fs')
const http = require('node:http')

const { url, connections, rate, posts } = JSON.parse(process.argv[2])
const file = process.argv[3]
const TICK = 2
const PATIENCE = 15_000
const filler = Buffer.alloc(20_000, 'x')

const target = new URL(url)
const agent = new http.Agent({ keepAlive: true, maxSockets: connections })
const begin = performance.now()
const lines = []
let started = 0
let ended = 0
let dueTotal = Infinity

const epoch = (time) => ((performance.timeOrigin + time) / 1000).toFixed(6)

function one(number, due) {
  // Evenly mixed, without chance: the share of POSTs so far is that of the whole.
  const post = Math.floor((number + 1) * posts) > Math.floor(number * posts)
  const id = post ? `${process.pid}-${number}` : ''
  const path = post ? `/?id=${id}` : number % 50 === 7 ? '/slow' : '/'
  const size = post ? 10 + ((number * 7919) % (filler.length - 10)) : 0
  const wanted = post ? `${id} ${size}\n` : 'hello\n'
  let answer
  let over = false
  const done = (whole, problem) => {
    if (over) return
    over = true
    ended += 1
    const status = answer?.statusCode ?? 0
    const fields = answer?.headers ?? {}
    lines.push([
      epoch(due), epoch(performance.now()), post ? 'POST' : 'GET', id, status, Number(whole),
      fields['x-origin'] ?? '', fields['proxy-status'] ?? '', problem,
    ].join('\t'))
  }
  const request = http.request({
    agent, host: target.hostname, port: target.port, path, method: post ? 'POST' : 'GET', timeout: PATIENCE,
    headers: post ? { 'Content-Length': size } : {},
  }, (response) => {
    answer = response
    let body = ''
    response.setEncoding('utf8').on('data', (piece) => (body += piece))
    response.on('end', () => done(true, response.statusCode === 200 && body !== wanted ? 'another body' : ''))
    response.on('error', (error) => done(false, error.code ?? error.message))
  })
  request.on('timeout', () => request.destroy(new Error('timeout')))
  request.on('error', (error) => done(false, error.code ?? error.message))
  request.end(post ? filler.subarray(0, size) : undefined)
}

const timer = setInterval(() => {
  const now = performance.now()
  while (started < Math.min(dueTotal, ((now - begin) / 1000) * rate)) one(started, begin + (started++ / rate) * 1000)
}, TICK)

process.on('SIGTERM', () => {
  dueTotal = started
  clearInterval(timer)
  const deadline = performance.now() + PATIENCE + 1000
  setInterval(() => {
    if (ended < started && performance.now() < deadline) return
    if (ended < started) return process.exit(1)
    fs.writeFileSync(file, lines.join('\n') + '\n')
    process.exit(0)
  }, 20)
})
