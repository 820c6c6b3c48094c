import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { createDice, makeStream, split } from './http1-corpus.ts'
import { type ReadMessage, readByLlhttp } from './http1-streams.ts'
import { startGatewayWith } from './proxy-gateway.ts'

const WAIT_MS = 60

/**
 * Sends random streams of requests through a raw gateway, in pieces, and compares what arrives
 * upstream with what llhttp sees in the stream: never more requests, never another body. Throws at
 * the first finding.
 */
export async function fuzzGateway(
  seed: number,
  streams: number,
): Promise<{ sent: number; forwarded: number }> {
  const arrived: string[] = []
  const upstream = createServer((request, answer) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      arrived.push(`${request.method} ${request.url} ${Buffer.concat(chunks).toString('latin1')}`)
      answer.end('ok')
    })
    request.on('error', () => {})
  })
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve))
  const { port } = upstream.address() as AddressInfo
  const gateway = await startGatewayWith({ front: 'raw', upstream: 'raw' })({
    upstream: `http://127.0.0.1:${port}`,
  })
  const dice = createDice(seed)
  let forwarded = 0
  /** Of the stream before: on a busy machine they arrive when this one has begun. */
  let late: string[] = []
  try {
    for (let i = 0; i < streams; i++) {
      const bytes = makeStream('request', dice)
      arrived.length = 0
      await sendStream(gateway.port, dice.roll(2) === 0 ? [bytes] : split(bytes, dice))
      const expected = readByLlhttp('request', bytes).messages.map(toText)
      // Those that the gateway answers itself do not arrive; the others do, in their order.
      let next = 0
      for (const [index, request] of arrived.entries()) {
        const found = expected.indexOf(request, next)
        const lateAt = found < 0 ? late.indexOf(request) : -1
        if (found >= 0) next = found + 1
        if (lateAt >= 0) late = late.slice(lateAt + 1)
        if (found >= 0 || lateAt >= 0) continue
        const stream = JSON.stringify(bytes.toString('latin1'))
        throw new Error(
          `request ${index} arrived as ${JSON.stringify(request)}\nseed ${seed}, ${i}: ${stream}`,
        )
      }
      forwarded += arrived.length
      late = expected.slice(next)
    }
    if (gateway.errors.length > 0) throw new Error(`the gateway failed: ${JSON.stringify(gateway.errors)}`)
  } finally {
    await gateway.close()
    upstream.closeAllConnections()
    await new Promise((resolve) => upstream.close(resolve))
  }
  return { sent: streams, forwarded }
}

/** An absolute target is forwarded as its path. */
function toText({ start, body }: ReadMessage): string {
  return `${start.replace(/ https?:\/\/[^/?]*(?=\/)/i, ' ')} ${body}`
}

/** Resolves when the gateway has ended the connection, or has been silent for a while. */
async function sendStream(port: number, pieces: readonly Buffer[]): Promise<void> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  socket.on('error', () => {})
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  const quiet = new Promise<void>((resolve) => {
    let timer = setTimeout(resolve, WAIT_MS)
    socket.on('data', () => {
      clearTimeout(timer)
      timer = setTimeout(resolve, WAIT_MS / 3)
    })
  })
  for (const piece of pieces) {
    socket.write(piece)
    await new Promise((resolve) => setImmediate(resolve))
  }
  await Promise.race([closed, quiet])
  socket.destroy()
}
