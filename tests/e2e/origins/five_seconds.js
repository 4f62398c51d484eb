// An origin with Node's own keep-alive: `node five_seconds.js JSON`, where JSON is a list of {port, tells}. It closes
// connections that are idle for 5 s, Node's default; newer versions add a second to what they tell, which is taken back
// here. With `tells` its answers say so (`Keep-Alive: timeout=5`, as Node does), without they do not. On SIGTERM it prints
// as JSON, for each port, what it saw of its connections.
'use strict'
const http = require('node:http')

const seen = {}

function serve({ port, tells }) {
  const counts = (seen[port] = { requests: 0, connections: 0, reused: 0, longest: 0 })
  const server = http.createServer((request, response) => {
    const { socket } = request
    counts.requests += 1
    if (socket.idleSince !== undefined) {
      counts.reused += 1
      counts.longest = Math.max(counts.longest, (performance.now() - socket.idleSince) / 1000)
    }
    socket.idleSince = undefined
    // With a `Connection` of ours, Node adds no `Keep-Alive`.
    if (!tells) response.setHeader('Connection', 'keep-alive')
    work()
    const body = []
    request.on('data', (piece) => body.push(piece))
    request.on('end', () => setTimeout(() => response.end(Buffer.concat([Buffer.from('got '), ...body])), 5))
    response.on('finish', () => {
      socket.idleSince = performance.now()
      socket.setTimeout(server.keepAliveTimeout)
    })
  })
  server.on('connection', () => (counts.connections += 1))
  server.listen({ port, host: '127.0.0.1', backlog: 1024 })
}

// What applications do between two looks at their sockets: a request can be there, unread, when its connection is closed.
function work() {
  const end = performance.now() + 0.5
  while (performance.now() < end);
}

JSON.parse(process.argv[2]).forEach(serve)
process.on('SIGTERM', () => {
  console.log(JSON.stringify(seen))
  process.exit(0)
})
