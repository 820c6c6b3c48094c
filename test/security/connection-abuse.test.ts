import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { describe, expect, it } from 'vitest'
import { useProxy } from '../support/proxy-bench.ts'
import { ENGINE_PAIRS, eventually, startGatewayWith, type TestGateway } from '../support/proxy-gateway.ts'
import { TEST_TLS } from '../support/test-tls.ts'
import { startHttpUpstream, startStreamingUpstream } from '../support/upstreams.ts'

const MEGABYTE = 1_000_000

describe.each(ENGINE_PAIRS)(
  'a client that abuses its connection ($front front, $upstream upstream)',
  (engines) => {
    const bench = useProxy({ startGateway: startGatewayWith(engines) })

    it.each([{}, { tls: TEST_TLS }])(
      'is not read any further while it takes no answer (case %#)',
      async (tls) => {
        const upstream = await bench.upstream(startHttpUpstream())
        const gateway = await bench.gateway({ upstream: upstream.url, routes: [ROUTE_AWAY], ...tls })
        const request = `GET /lost HTTP/1.1\r\nHost: a\r\nX-Padding: ${'x'.repeat(1000)}\r\n\r\n`
        const flood = startFlood(gateway, Buffer.from(request.repeat(64)), 60 * MEGABYTE, 'tls' in tls)
        await settled(() => gateway.records.length)
        expect(gateway.records.length).toBeGreaterThan(1000)
        expect(flood.sent()).toBeLessThan(45 * MEGABYTE)
        // Afterwards nothing is left to clear away.
        flood.socket.destroy()
        const startedAt = performance.now()
        await gateway.close(10_000)
        expect(performance.now() - startedAt).toBeLessThan(3000)
      },
    )

    it('gets every answer, in order, however many requests it sends ahead', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({ upstream: upstream.url, routes: [ROUTE_AWAY] })
      const client = bench.client(gateway)
      const count = 6000
      for (let i = 0; i < count; i++)
        client.write(`GET /lost HTTP/1.1\r\nHost: a\r\nX-Request-Id: r${i}.\r\n\r\n`)
      await client.sees(`"r${count - 1}."`)
      const ids = [...client.received.matchAll(/"request_id":"r(\d+)\./g)].map((match) => Number(match[1]))
      expect(ids).toEqual(Array.from({ length: count }, (_, i) => i))
    })

    it('is not blamed for a head that came in halves because nothing was read', async () => {
      const upstream = await bench.upstream(
        startHttpUpstream((_request, answer) => setTimeout(() => answer.end('ok'), 20)),
      )
      const gateway = await bench.gateway({ upstream: upstream.url, gateway: { timeouts: { headers: 600 } } })
      const client = bench.client(gateway)
      const count = 140
      client.write(`GET / HTTP/1.1\r\nHost: a\r\nX-Padding: ${'x'.repeat(997)}\r\n\r\n`.repeat(count))
      await eventually(() => gateway.records.length >= count, 'all answered')
      expect(new Set(gateway.records.map((record) => record.status))).toEqual(new Set([200]))
      // Nor is it excused for good.
      client.write('GET / HTTP/1.1\r\n')
      expect(await client.readAll()).toContain('HTTP/1.1 408')
    })

    it('loses it when its body comes in too slowly, though never silent; time it is not read does not count', async () => {
      const seen: string[] = []
      const upstream = await bench.upstream(
        startStreamingUpstream((request, answer) => {
          seen.push(request.url ?? '')
          // Reads nothing at first: the gateway cannot take more from the client either.
          setTimeout(() => request.resume(), request.url === '/held' ? 11_500 : 0)
          request.on('end', () => answer.end('ok'))
        }),
      )
      const gateway = await bench.gateway({
        upstream: upstream.url,
        gateway: { min_body_rate: 100 },
        routes: [{ upstream: 'main', max_body: 'unlimited' }],
      })
      const paces = [
        { target: '/length', framing: 'Content-Length: 100000', piece: 'a', status: 408 },
        { target: '/chunked', framing: 'Transfer-Encoding: chunked', piece: '1\r\na\r\n', status: 408 },
        { target: '/steady', framing: 'Content-Length: 6000', piece: 'x'.repeat(250), status: 200 },
      ]
      const clients = paces.map(({ target, framing, piece }) => {
        const client = bench.client(gateway)
        client.send(`POST ${target} HTTP/1.1`, 'Host: a', framing)
        const timer = setInterval(
          () => !client.isClosed && client.socket.writable && client.write(piece),
          500,
        )
        client.socket.once('close', () => clearInterval(timer))
        return client
      })
      const held = bench.client(gateway)
      held.send('POST /held HTTP/1.1', 'Host: a', `Content-Length: ${20 * MEGABYTE}`)
      held.write(Buffer.alloc(20 * MEGABYTE))
      // The first ten seconds of a body are free.
      await new Promise((resolve) => setTimeout(resolve, 9000))
      expect(gateway.records).toEqual([])
      const answers = await Promise.all([...clients, held].map((client) => client.readAnswer()))
      expect(answers.map((answer) => answer.status)).toEqual([...paces.map((pace) => pace.status), 200])
      expect(seen).toHaveLength(4)
      await eventually(() => gateway.records.length === 4, 'all recorded')
    })
  },
)

const ROUTE_AWAY = { upstream: 'main', match: { path: '/elsewhere' } }

/** Sends the same bytes again and again, and reads nothing. */
function startFlood(
  gateway: TestGateway,
  bytes: Buffer,
  bytesMax: number,
  isTls: boolean,
): { socket: Socket; sent(): number } {
  const { port } = gateway
  const host = '127.0.0.1'
  const socket = isTls ? connectTls({ port, host, rejectUnauthorized: false }) : connect({ port, host })
  let sent = 0
  const pump = (): void => {
    while (sent < bytesMax) {
      sent += bytes.length
      if (!socket.write(bytes)) break
    }
  }
  socket.on('error', () => {})
  socket.on('drain', pump)
  socket.on('connect', pump)
  return { socket, sent: () => sent }
}

/** Resolves once a count has not changed for a while. */
async function settled(count: () => number): Promise<void> {
  for (let before = -1; before !== count() || before === 0; ) {
    before = count()
    await new Promise((resolve) => setTimeout(resolve, 700))
  }
}
