// Users who all act at once and then wait for as long as servers keep idle connections: `node bursts.js JSON`, where JSON
// has the number of `rounds` and a list of `groups`, {name, url, users}. Each user has a connection of its own. In each
// round all users of a group send a GET or a POST within a few milliseconds. Before the next round 4.5 to 5.5 s pass, in
// every other one 4.93 to 5.03 s, from when half of the answers had come. Groups do not wait for each other. Prints one
// line of JSON for each group, with the gaps and with every answer that was not a whole 200 with the body that is due.
'use strict'
const http = require('node:http')

const { rounds, groups } = JSON.parse(process.argv[2])
const WITHIN = 8
const PATIENCE = 10_000

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))
const between = (from, to) => from + Math.random() * (to - from)

function ask(target, agent, body) {
  return new Promise((resolve) => {
    const request = http.request(target, {
      agent, method: body === '' ? 'GET' : 'POST', timeout: PATIENCE,
      headers: body === '' ? {} : { 'Content-Length': body.length },
    }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (piece) => (text += piece))
      response.on('error', (error) => resolve(`${response.statusCode}, then ${error.code ?? error.message}`))
      response.on('end', () => {
        if (response.statusCode !== 200) resolve(`${response.statusCode} ${response.headers['proxy-status'] ?? ''}`)
        else resolve(text === `got ${body}` ? '' : `200 with ${text.length} bytes`)
      })
    })
    request.on('timeout', () => request.destroy(new Error('timeout')))
    request.on('error', (error) => resolve(error.code ?? error.message))
    request.end(body)
  })
}

async function run({ name, url, users }) {
  const agents = Array.from({ length: users }, () => new http.Agent({ keepAlive: true, maxSockets: 1 }))
  const counts = { name, GET: 0, POST: 0, failures: {}, gaps: [] }
  for (let round = 0; round < rounds; round += 1) {
    if (round > 0) {
      const gap = round % 2 === 0 ? between(4500, 5500) : between(4930, 5030)
      await sleep(counts.half + gap - performance.now())
      counts.gaps.push((performance.now() - counts.half) / 1000)
    }
    let answered = 0
    await Promise.all(agents.map(async (agent, user) => {
      await sleep(Math.random() * WITHIN)
      const body = Math.random() < 0.5 ? '' : `${name} ${round} ${user}`
      const method = body === '' ? 'GET' : 'POST'
      counts[method] += 1
      const problem = await ask(url, agent, body)
      answered += 1
      if (answered === users >> 1) counts.half = performance.now()
      if (problem === '') return
      const kind = `${method}: ${problem}`
      counts.failures[kind] = (counts.failures[kind] ?? 0) + 1
    }))
  }
  for (const agent of agents) agent.destroy()
  console.log(JSON.stringify(counts))
}

groups.forEach(run)
