import { createHash } from 'node:crypto'
import { createServer as createHttp1Server, type IncomingMessage, type ServerResponse } from 'node:http'
import {
  createServer as createHttp2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import type { Engines } from '../../src/data-plane/engines.ts'
import { createDice, type Dice } from '../support/http1-corpus.ts'
import { startGatewayWith, type TestGateway } from '../support/proxy-gateway.ts'
import { connectRaw, type RawClient } from '../support/raw-client.ts'

/*
 * The connections of a thread read into one piece of memory. Whoever keeps a piece of it for longer
 * than it is lent sends what another client said. So everybody says something else here, at once,
 * in pieces of all sizes, to upstreams that take it in bursts.
 */

const CLIENTS = Number(process.env['DRIPGATE_LENT_CLIENTS'] ?? 16)
const REQUESTS = 8
const SUM_BYTES = 32
/** Where the upstream reads nothing for a while, so that all memory between it and the client fills up. */
const STALLED = '/stalled'
const STALL_MS = 150
const STALLED_BYTES = 3_000_000

const closers: (() => Promise<void> | void)[] = []

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

type Protocol = 'http1' | 'http2'

interface Checker {
  readonly url: string
  /** Bodies that came whole and were not what their client had sent. */
  readonly wrong: string[]
  bytes: number
}

/** Takes bodies in bursts, and answers with what it saw of them and where they came from. */
async function startChecker(protocol: Protocol, dice: Dice): Promise<Checker> {
  const sockets = new Set<Socket>()
  const checker = { url: '', wrong: [] as string[], bytes: 0 }
  const handle = (
    request: IncomingMessage | Http2ServerRequest,
    answer: ServerResponse | Http2ServerResponse,
  ) => check(request, answer)
  const server =
    protocol === 'http1'
      ? createHttp1Server({ highWaterMark: 4096 }, handle)
      : createHttp2Server({ settings: { initialWindowSize: 16 * 1024 } }, handle)
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closers.push(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return Object.assign(checker, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })

  function check(
    request: IncomingMessage | Http2ServerRequest,
    answer: ServerResponse | Http2ServerResponse,
  ): void {
    const chunks: Buffer[] = []
    request.on('error', () => {})
    answer.on('error', () => {})
    const rest = (ms: number) => {
      request.pause()
      setTimeout(() => request.resume(), ms)
    }
    request.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      if (dice.roll(6) === 0) rest(dice.roll(8))
    })
    if (request.url === STALLED) rest(STALL_MS)
    request.on('end', () => {
      // node:http2 ends a request that was reset as if it were complete.
      if ('stream' in request && request.stream.rstCode !== 0) return
      const body = Buffer.concat(chunks)
      const isRight = body.length === 0 || toSum(body.subarray(SUM_BYTES)).equals(body.subarray(0, SUM_BYTES))
      if (!isRight) checker.wrong.push(`${request.method} ${request.url}: ${body.length} bytes`)
      checker.bytes += body.length
      const { 'x-forwarded-for': peer, 'content-length': length } = request.headers
      const seen: Seen = {
        ...{ line: `${request.method} ${request.url}`, sum: toSum(body).toString('hex'), peer },
        ...{ length, trailer: request.trailers['x-sum'] },
      }
      ;(answer as ServerResponse).end(JSON.stringify(seen))
    })
  }
}

interface Seen {
  readonly line: string
  readonly sum: string
  readonly peer: unknown
  readonly length: string | undefined
  readonly trailer: unknown
}

interface Sent {
  readonly head: string
  readonly body: Buffer
  readonly expected: Seen
  readonly waits: boolean
}

function toSum(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest()
}

function makeBody(dice: Dice, isStalled: boolean): Buffer {
  const length = isStalled ? STALLED_BYTES : dice.pick([1, 40, 700, 15_000, 70_000, 200_000]) + dice.roll(40)
  const rest = Buffer.alloc(length)
  const word = Buffer.from([dice.roll(256), dice.roll(256), dice.roll(256), dice.roll(256)])
  for (let at = 0; at < length; at += 4) {
    word.writeUInt32LE(Math.imul(word.readUInt32LE() + at, 2_654_435_761) >>> 0)
    word.copy(rest, at)
  }
  return Buffer.concat([toSum(rest), rest])
}

/** Their heads say nothing of who sends them, so that they are the same for all. */
function makeRequest(dice: Dice, peer: string): Sent {
  const kind = dice.pick(['get', 'length', 'length', 'chunked', 'chunked', 'expect'] as const)
  const isStalled = kind !== 'get' && dice.roll(20) === 0
  const line = `${kind === 'get' ? 'GET' : 'POST'} ${isStalled ? STALLED : `/${dice.roll(1000)}`}`
  const head = `${line} HTTP/1.1\r\nHost: a\r\n`
  if (kind === 'get') {
    const expected = {
      ...{ line, peer, sum: toSum(Buffer.alloc(0)).toString('hex') },
      ...{ length: undefined, trailer: undefined },
    }
    return { head: `${head}\r\n`, body: Buffer.alloc(0), expected, waits: false }
  }
  const body = makeBody(dice, isStalled)
  const sum = toSum(body).toString('hex')
  if (kind === 'chunked') {
    const expected = { line, peer, sum, length: undefined, trailer: sum }
    const coding = `Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n`
    return { head: `${head}${coding}\r\n`, body: toChunks(body, sum, dice), expected, waits: false }
  }
  const waits = kind === 'expect'
  const fields = `${waits ? 'Expect: 100-continue\r\n' : ''}Content-Length: ${body.length}\r\n\r\n`
  const expected = { line, peer, sum, length: String(body.length), trailer: undefined }
  return { head: head + fields, body, expected, waits }
}

function toChunks(body: Buffer, sum: string, dice: Dice): Buffer {
  const parts: Buffer[] = []
  const lengthMax = dice.pick([50, 4000, 100_000])
  for (let at = 0; at < body.length; ) {
    const end = Math.min(body.length, at + 1 + dice.roll(Math.max(lengthMax, body.length >> 6)))
    parts.push(Buffer.from(`${(end - at).toString(16)}\r\n`), body.subarray(at, end), Buffer.from('\r\n'))
    at = end
  }
  return Buffer.concat([...parts, Buffer.from(`0\r\nX-Sum: ${sum}\r\n\r\n`)])
}

/** Sends the bytes in pieces, no faster than they are taken. */
async function sendInPieces(client: RawClient, bytes: Buffer, dice: Dice): Promise<void> {
  const lengthMax = dice.pick([90, 3000, 65_536, 300_000])
  const piecesMax = 40
  for (let at = 0, pieces = 0; at < bytes.length; pieces++) {
    const end = pieces > piecesMax ? bytes.length : Math.min(bytes.length, at + 1 + dice.roll(lengthMax))
    const isWelcome = client.socket.write(bytes.subarray(at, end))
    at = end
    if (client.isClosed) return
    if (!isWelcome)
      await new Promise((resolve) => client.socket.once('drain', resolve).once('close', resolve))
    else if (dice.roll(3) === 0) await new Promise((resolve) => setImmediate(resolve))
  }
}

/** Requests one behind the other, several ahead of their answers. Some clients go in the middle. */
async function converse(gateway: TestGateway, seed: number): Promise<number> {
  const dice = createDice(seed)
  const peer = `127.0.0.${2 + dice.roll(9)}`
  const client = connectRaw(gateway.port, { localAddress: peer })
  const requests = Array.from({ length: REQUESTS }, () => makeRequest(dice, peer))
  const leavesAt = dice.roll(4) === 0 ? dice.roll(REQUESTS) : REQUESTS
  let mayGoOn = () => {}
  const sending = (async () => {
    let ahead = Buffer.alloc(0)
    for (const [index, { head, body, waits }] of requests.entries()) {
      if (index === leavesAt) {
        await sendInPieces(
          client,
          Buffer.concat([ahead, Buffer.from(head), body.subarray(0, body.length >> 1)]),
          dice,
        )
        client.reset()
        return
      }
      ahead = Buffer.concat([ahead, Buffer.from(head)])
      if (waits) {
        const told = new Promise<void>((resolve) => {
          mayGoOn = resolve
        })
        await sendInPieces(client, ahead, dice)
        await told
        ahead = Buffer.alloc(0)
      }
      ahead = Buffer.concat([ahead, body])
      if (dice.roll(2) === 0) continue
      await sendInPieces(client, ahead, dice)
      ahead = Buffer.alloc(0)
    }
    await sendInPieces(client, ahead, dice)
  })()
  let answered = 0
  try {
    for (const { expected, waits } of requests) {
      let answer = await client.readAnswer()
      if (waits) {
        expect(answer.status).toBe(100)
        mayGoOn()
        answer = await client.readAnswer()
      }
      expect(answer.status).toBe(200)
      expect(JSON.parse(String(answer.body))).toEqual(JSON.parse(JSON.stringify(expected)))
      answered++
    }
  } catch (error) {
    if (leavesAt === REQUESTS || !client.isClosed) throw error
  }
  mayGoOn()
  await sending
  client.destroy()
  return answered
}

const WAYS: readonly (readonly [Engines, Protocol])[] = [
  [{ front: 'raw', upstream: 'raw' }, 'http1'],
  [{ front: 'raw', upstream: 'node' }, 'http1'],
  [{ front: 'raw', upstream: 'raw' }, 'http2'],
  [{ front: 'node', upstream: 'raw' }, 'http1'],
]

describe.each(WAYS)('with %o and %s behind it', (engines, protocol) => {
  it('each request has the body of its own client, and each client its own answers', async () => {
    const seed = Number(process.env['DRIPGATE_LENT_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
    const upstream = await startChecker(protocol, createDice(seed))
    const gateway = await startGatewayWith(engines)({
      upstreams: { main: { targets: [upstream.url], protocol } },
      routes: [{ name: 'main', upstream: 'main', max_body: 'unlimited' }],
    })
    closers.push(() => gateway.close())
    const conversations = Array.from({ length: CLIENTS }, (_, i) => converse(gateway, seed + i))
    const answered = await Promise.all(conversations).catch((error) => {
      throw new Error(`seed ${seed}`, { cause: error })
    })
    const total = answered.reduce((sum, each) => sum + each, 0)
    expect(upstream.wrong).toEqual([])
    expect(gateway.errors).toEqual([])
    expect(total).toBeGreaterThan((CLIENTS * REQUESTS) / 2)
    expect(upstream.bytes).toBeGreaterThan(CLIENTS * 50_000)
  })
})
