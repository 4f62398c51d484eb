// An Express application as people write them: `node express_app.js PORT PAYLOAD`.
// Beside /small, /download and /upload it serves a page whose script fetches data and writes what it saw into the page.
'use strict'
const crypto = require('node:crypto')
const express = require('express')

const [port, payload] = process.argv.slice(2)
const app = express()

app.use((request, response, next) => {
  response.set('X-Origin', 'express')
  next()
})
app.get('/small', (request, response) => response.send('hello from express\n'))
app.get('/download', (request, response) => response.sendFile(payload))
app.all('/upload', (request, response) => {
  const hash = crypto.createHash('sha256')
  let bytes = 0
  request.on('data', (piece) => {
    hash.update(piece)
    bytes += piece.length
  })
  request.on('end', () => response.json({ bytes, sha256: hash.digest('hex'), version: request.httpVersion }))
})
app.get('/numbers/:number', (request, response) => response.json({ number: Number(request.params.number) }))
app.post('/echo', express.json(), (request, response) => response.json(request.body))
app.get('/page', (request, response) => response.type('html').send(page))

const page = `<!doctype html>
<title>weir</title>
<pre id="result">not done</pre>
<script>
async function run() {
  const numbers = Array.from({ length: 50 }, (_, number) => number)
  const answers = await Promise.all(numbers.map(async (number) => (await fetch('numbers/' + number)).json()))
  const echo = await fetch('echo', {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ text: 'schön' }),
  })
  return {
    protocol: performance.getEntriesByType('navigation')[0].nextHopProtocol,
    fetched: performance.getEntriesByType('resource').map((entry) => entry.nextHopProtocol),
    sum: answers.reduce((sum, answer) => sum + answer.number, 0),
    echo: (await echo.json()).text,
  }
}
run().catch((error) => ({ error: String(error) })).then((result) => {
  document.getElementById('result').textContent = JSON.stringify(result)
})
</script>
`

app.listen(port, '127.0.0.1')
