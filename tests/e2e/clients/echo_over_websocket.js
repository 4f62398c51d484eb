// `node echo_over_websocket.js URL SOCKETS BYTES`: that many WebSockets at once, each sends so many bytes in messages of
// different sizes and wants them back, intact and in order. Prints one line of JSON. With SOCKETS = 0: opens one, prints
// "open", and stays.
'use strict'
const crypto = require('node:crypto')
const { WebSocket } = require('ws')

const [url, sockets, bytes] = process.argv.slice(2)
const options = { rejectUnauthorized: false, perMessageDeflate: false, maxPayload: 32 << 20 }
const AHEAD = 4
// From less than a frame's short length to more than any buffer on the way.
const SIZES = [100, 65_535, 1_000_000, 65_536, 126, 300_000, 1]
const source = crypto.randomBytes(2_000_000)

function echo(number) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`${url}?id=echo-${number}`, options)
    const sent = crypto.createHash('sha256')
    const received = crypto.createHash('sha256')
    let toSend = Number(bytes)
    let toReceive = Number(bytes)
    let messages = 0
    const send = () => {
      if (toSend === 0) return
      const size = Math.min(toSend, SIZES[(number + messages++) % SIZES.length])
      const start = (number * 7919 + messages * 104_729) % (source.length - size)
      const message = source.subarray(start, start + size)
      toSend -= size
      sent.update(message)
      socket.send(message)
    }
    socket.on('open', () => {
      for (let ahead = 0; ahead < AHEAD; ahead += 1) send()
    })
    socket.on('message', (message) => {
      received.update(message)
      toReceive -= message.length
      if (toReceive === 0) socket.close(1000, 'done')
      else send()
    })
    socket.on('error', reject)
    socket.on('close', (code, reason) => {
      if (toReceive !== 0) reject(new Error(`socket ${number} closed with ${code}, ${toReceive} bytes missing`))
      resolve({ intact: sent.digest('hex') === received.digest('hex'), code, reason: reason.toString() })
    })
  })
}

async function run() {
  const results = await Promise.all(Array.from({ length: Number(sockets) }, (_, number) => echo(number)))
  console.log(JSON.stringify({
    intact: results.filter((result) => result.intact).length,
    closedCleanly: results.filter((result) => result.code === 1000).length,
  }))
}

if (Number(sockets) === 0) new WebSocket(url, options).on('open', () => console.log('open'))
else run().catch((error) => {
  console.error(String(error))
  process.exit(1)
})
