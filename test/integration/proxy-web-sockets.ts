import { createHash, randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { useProxy } from '../support/proxy-bench.ts'
import { eventually, KSID, TOKEN } from '../support/proxy-gateway.ts'
import { CA_FILE, TEST_TLS } from '../support/test-tls.ts'
import {
  findClosedPort,
  startHttpsUpstream,
  startHttpUpstream,
  startRawUpstream,
  type Upstream,
} from '../support/upstreams.ts'
import type { ProxyUnderTest } from './proxy-behaviour.ts'

const HANDSHAKE = [
  'Host: a.test',
  'Connection: keep-alive, Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
]
const ACCEPT = createHash('sha1')
  .update('dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11')
  .digest('base64')
const SWITCH = `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${ACCEPT}\r\n\r\n`

/** In what the kernel and the gateway hold for somebody who does not read. */
const MORE_THAN_FITS = 32 * 1024 * 1024

interface EchoServer extends Pick<Upstream, 'url' | 'port' | 'connections' | 'openSockets' | 'close'> {
  readonly requests: IncomingMessage[]
  readonly sockets: Set<WebSocket>
}

async function startEcho(): Promise<EchoServer> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  const requests: IncomingMessage[] = []
  server.on('connection', (socket, request) => {
    requests.push(request)
    socket.on('error', () => {})
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  })
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  return {
    requests,
    sockets: server.clients,
    url: `http://127.0.0.1:${port}`,
    port,
    connections: 0,
    openSockets: new Set(),
    close: () =>
      new Promise((resolve) => {
        for (const socket of server.clients) socket.terminate()
        server.close(() => resolve())
      }),
  }
}

export function describeWebSockets(name: string, proxy: ProxyUnderTest): void {
  describe(`${name}: WebSockets`, () => {
    const bench = useProxy(proxy)

    async function openSocket(
      port: number,
      options: { headers?: Record<string, string>; path?: string } = {},
    ) {
      const socket = new WebSocket(`ws://127.0.0.1:${port}${options.path ?? '/'}`, {
        headers: options.headers ?? {},
      })
      socket.on('error', () => {})
      await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
      return socket
    }

    function nextMessage(socket: WebSocket): Promise<string> {
      return new Promise((resolve) => socket.once('message', (data) => resolve(String(data))))
    }

    it('carries messages both ways until one side closes, and records the exchange once', async () => {
      const upstream = await bench.upstream(startEcho())
      const gateway = await bench.gateway({ upstream: upstream.url })
      const socket = await openSocket(gateway.port)
      for (const text of ['hello', 'x'.repeat(200_000), 'bye']) {
        const answer = nextMessage(socket)
        socket.send(text)
        expect(await answer).toBe(text)
      }
      expect(gateway.records).toHaveLength(0)
      const closed = new Promise((resolve) => socket.once('close', (code) => resolve(code)))
      socket.close(4000)
      expect(await closed).toBe(4000)
      await eventually(() => gateway.records.length === 1, 'recorded')
      expect(gateway.records[0]).toMatchObject({ status: 101, decision: 'open', upstreamName: 'main' })
      expect(gateway.records[0]?.bytesOut).toBeGreaterThan(200_000)
      await eventually(() => upstream.sockets.size === 0, 'the upstream side closed')
    })

    it('passes the request through the stages, stripped and marked like any other', async () => {
      const upstream = await bench.upstream(startEcho())
      const routes = [{ upstream: 'main', keyspace: KSID }]
      const gateway = await bench.gateway({ upstream: upstream.url, routes })
      const socket = await openSocket(gateway.port, {
        path: '/chat//room/%7Ea?x=%20',
        headers: {
          Authorization: `Bearer ${TOKEN}`,
          'X-Dripgate-Key-Id': 'k_forged',
          'X-Forwarded-For': '6.6.6.6',
          Cookie: 'a=1',
        },
      })
      const [request] = upstream.requests
      expect(request?.url).toBe('/chat//room/%7Ea?x=%20')
      expect(request?.headers.authorization).toBeUndefined()
      expect(request?.headers['x-dripgate-key-id']).toBe('k_1')
      expect(request?.headers['x-forwarded-for']).toBe('127.0.0.1')
      expect(request?.headers.via).toBe('1.1 dripgate')
      expect(request?.headers.cookie).toBe('a=1')
      expect(request?.headers.host).toBe(`127.0.0.1:${gateway.port}`)
      socket.terminate()
      await eventually(() => upstream.sockets.size === 0, 'the upstream side closed')
    })

    it('relays the 101 with what the gateway adds, and the bytes that came behind either head', async () => {
      const received: string[] = []
      const upstream = await bench.upstream(
        startRawUpstream((connection) =>
          connection.onFirstHead(() => {
            connection.write(
              SWITCH.replace('\r\n\r\n', '\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n'),
              'early down',
            )
            connection.socket.on('data', () => received.push(connection.rest))
          }),
        ),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)
      client.write(`GET / HTTP/1.1\r\n${HANDSHAKE.join('\r\n')}\r\n\r\nearly up`)
      const answer = await client.readAnswer()
      expect(answer.status).toBe(101)
      expect(answer.headers.get('upgrade')).toBe('websocket')
      expect(answer.headers.get('connection')?.toLowerCase()).toBe('upgrade')
      expect(answer.headers.get('sec-websocket-accept')).toBe(ACCEPT)
      expect(answer.headers.get('set-cookie')).toBe('a=1, b=2')
      expect(answer.headers.get('via')).toBe('1.1 dripgate')
      expect(answer.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
      await client.sees('early down')
      await eventually(() => received.at(-1) === 'early up', 'the bytes behind the head')
    })

    it.each([
      ['GET /nowhere HTTP/1.1', [], 404],
      ['GET /keyed HTTP/1.1', [], 401],
      ['GET /limited HTTP/1.1', ['X-API-KEY: t'], 429],
      ['GET /a%2Fb HTTP/1.1', [], 404],
    ])('refuses %s with an ordinary answer and closes', async (line, fields, status) => {
      const upstream = await bench.upstream(startEcho())
      const gateway = await bench.gateway({
        upstream: upstream.url,
        routes: [
          { upstream: 'main', match: { path: '/keyed' }, keyspace: KSID },
          { upstream: 'main', match: { path: '/limited' }, keyspace: KSID },
        ],
        checkKey: () => ({
          ...{ kind: 'limited', kid: 'k_1', ksid: KSID, limit: { capacity: 1, rate: 0, intervalMs: 0 } },
          ...{ remaining: 0, lastRefilledMs: 0, nowMs: 0, retryAfterMs: undefined },
        }),
      })
      const client = bench.client(gateway)
      client.send(line, ...HANDSHAKE, ...fields)
      const answer = await client.readAnswer()
      expect(answer.status).toBe(status)
      expect(answer.headers.get('content-type')).toBe('application/json')
      await client.closed()
      expect(upstream.requests).toHaveLength(0)
      expect(gateway.records).toHaveLength(1)
    })

    it('says 502 or 504 where the upstream is down or silent, and tries the next target first', async () => {
      const closed = await findClosedPort()
      const silent = await bench.upstream(startRawUpstream(() => {}))
      const routes = [{ upstream: 'main', timeouts: { response: 200 } }]
      for (const [url, status] of [
        [`http://127.0.0.1:${closed}`, 502],
        [silent.url, 504],
      ] as const) {
        const gateway = await bench.gateway({ upstream: url, routes })
        const client = bench.client(gateway)
        client.send('GET / HTTP/1.1', ...HANDSHAKE)
        expect((await client.readAnswer()).status).toBe(status)
        await client.closed()
        await eventually(() => gateway.records.length === 1, 'recorded')
      }
      expect(silent.openSockets.size).toBe(0)

      const echo = await bench.upstream(startEcho())
      const gateway = await bench.gateway({ upstream: [`http://127.0.0.1:${closed}`, echo.url] })
      const socket = await openSocket(gateway.port)
      const answer = nextMessage(socket)
      socket.send('hi')
      expect(await answer).toBe('hi')
      socket.terminate()
    })

    it.each(['Content-Length', 'Transfer-Encoding'])(
      'relays an answer that is no 101, framed by %s, and closes',
      async (framing) => {
        const upstream = await bench.upstream(
          startHttpUpstream((_request, answer) => {
            if (framing === 'Content-Length')
              answer.writeHead(403, { 'Content-Length': '4', 'X-Why': 'not you' })
            else answer.writeHead(403, { 'X-Why': 'not you' })
            answer.write('no')
            answer.end('pe')
          }),
        )
        const gateway = await bench.gateway({ upstream: upstream.url })
        const client = bench.client(gateway)
        client.send('GET / HTTP/1.1', ...HANDSHAKE)
        const answer = await client.readAnswer()
        expect([answer.status, answer.body.toString()]).toEqual([403, 'nope'])
        expect(answer.headers.get('x-why')).toBe('not you')
        await client.closed()
        await eventually(() => upstream.openSockets.size === 0, 'the upstream socket closed')
        expect(gateway.records[0]).toMatchObject({ status: 403 })
      },
    )

    it('reaches a target behind TLS, and only one that it can trust', async () => {
      const server = new WebSocketServer({ noServer: true })
      server.on('connection', (socket) => socket.on('message', (data) => socket.send(String(data))))
      const upstream = await bench.upstream(startHttpsUpstream(TEST_TLS))
      upstream.onUpgrade((request, socket, head) =>
        server.handleUpgrade(request, socket, head, (accepted) =>
          server.emit('connection', accepted, request),
        ),
      )
      const trusting = await bench.gateway({
        upstreams: { main: { targets: [upstream.url], tls: { ca: CA_FILE, servername: 'origin.test' } } },
      })
      const socket = await openSocket(trusting.port)
      const answer = nextMessage(socket)
      socket.send('hi')
      expect(await answer).toBe('hi')
      socket.terminate()

      const wary = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(wary)
      client.send('GET / HTTP/1.1', ...HANDSHAKE)
      expect((await client.readAnswer()).status).toBe(502)
    })

    it('closes the other side when one resets', async () => {
      const upstream = await bench.upstream(startEcho())
      const gateway = await bench.gateway({ upstream: upstream.url })
      const first = bench.client(gateway)
      first.send('GET / HTTP/1.1', ...HANDSHAKE)
      expect((await first.readAnswer()).status).toBe(101)
      first.reset()
      await eventually(() => upstream.sockets.size === 0, 'the upstream side closed')

      const second = bench.client(gateway)
      second.send('GET / HTTP/1.1', ...HANDSHAKE)
      expect((await second.readAnswer()).status).toBe(101)
      for (const socket of upstream.sockets) Reflect.get(socket, '_socket').resetAndDestroy()
      await second.closed()
      await eventually(() => gateway.records.length === 2, 'both recorded')
    })

    it('holds one side back while the other does not read, and loses nothing', async () => {
      const upstream = await bench.upstream(startEcho())
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = await openSocket(gateway.port)
      const [far] = upstream.sockets
      if (far === undefined) throw new Error('nobody came')
      far.pause()
      client.pause()
      const echoed: Buffer[] = []
      client.on('message', (data) => echoed.push(data as Buffer))
      const messages = Array.from({ length: 64 }, () => randomBytes(256 * 1024))
      for (const message of messages) client.send(message)
      // As much as there is room for on the way has left, and no more does.
      let waiting = Number.POSITIVE_INFINITY
      while (client.bufferedAmount < waiting) {
        waiting = client.bufferedAmount
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
      expect(waiting).toBeGreaterThan(1024 * 1024)
      far.resume()
      await eventually(() => client.bufferedAmount === 0, 'the upstream to have taken all')
      await eventually(() => far.bufferedAmount > 1024 * 1024, 'the upstream to be held back')
      client.resume()
      await eventually(() => echoed.length === messages.length, 'all to come back')
      expect(Buffer.concat(echoed).equals(Buffer.concat(messages))).toBe(true)
      client.terminate()
    })

    it('ends a tunnel in which nobody says anything for too long', async () => {
      const upstream = await bench.upstream(startEcho())
      const routes = [{ upstream: 'main', timeouts: { idle: 300 } }]
      const gateway = await bench.gateway({ upstream: upstream.url, routes })
      const socket = await openSocket(gateway.port)
      const code = await new Promise((resolve) => socket.once('close', resolve))
      expect(code).toBe(1001)
      await eventually(() => upstream.sockets.size === 0, 'the upstream side closed')
    })

    it('ends a silent tunnel also where the client does not read', async () => {
      const upstream = await bench.upstream(
        startRawUpstream((connection) => {
          connection.onHead(() => connection.write(SWITCH, Buffer.alloc(MORE_THAN_FITS)))
        }),
      )
      const routes = [{ upstream: 'main', timeouts: { idle: 300 } }]
      const gateway = await bench.gateway({ upstream: upstream.url, routes })
      const client = connect(gateway.port, '127.0.0.1')
      client.on('error', () => {})
      client.write(`GET / HTTP/1.1\r\n${HANDSHAKE.join('\r\n')}\r\n\r\n`)
      await eventually(() => upstream.openSockets.size === 1, 'the tunnel')
      await eventually(() => upstream.openSockets.size === 0, 'the upstream side closed')
      client.destroy()
    })

    it('lets go of an upstream that does not read once the client has left', async () => {
      let received = 0
      const sockets: Socket[] = []
      const upstream = await bench.upstream(
        startRawUpstream((connection) => {
          sockets.push(connection.socket)
          connection.onHead(() => {
            connection.write(SWITCH)
            connection.socket.pause()
          })
        }),
      )
      const routes = [{ upstream: 'main', timeouts: { idle: 300 } }]
      const gateway = await bench.gateway({ upstream: upstream.url, routes })
      const client = bench.client(gateway)
      client.send('GET / HTTP/1.1', ...HANDSHAKE)
      await client.sees('101 ')
      client.write(Buffer.alloc(MORE_THAN_FITS))
      await new Promise((resolve) => setTimeout(resolve, 100))
      client.reset()
      await eventually(() => gateway.records.length === 1, 'the end of the tunnel recorded')
      await new Promise((resolve) => setTimeout(resolve, 1000))
      // What the kernel holds still arrives; the rest went with the connection.
      const [socket] = sockets
      socket?.on('data', (chunk: Buffer) => {
        received += chunk.length
      })
      socket?.resume()
      await eventually(() => upstream.openSockets.size === 0, 'the upstream side closed')
      expect(received).toBeGreaterThan(0)
      expect(received).toBeLessThan(gateway.records[0]?.bytesIn ?? 0)
    })

    it('takes any other upgrade for an ordinary request, the last of its connection', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)
      const second = bench.client(gateway)
      client.send(
        'GET / HTTP/1.1',
        'Host: a',
        'Connection: Upgrade, HTTP2-Settings',
        'Upgrade: h2c',
        'HTTP2-Settings: x',
      )
      expect((await client.readAnswer()).status).toBe(200)
      await client.closed()
      second.send('POST / HTTP/1.1', ...HANDSHAKE, 'Content-Length: 2')
      second.write('hi')
      const answer = await second.readAnswer()
      expect([answer.status, answer.headers.get('connection')]).toEqual([200, 'close'])
      await second.closed()
      expect(upstream.seen.map((request) => request.headers.upgrade)).toEqual([undefined, undefined])
      expect(upstream.seen[0]?.headers['http2-settings']).toBeUndefined()
    })

    it('says 1001 to open tunnels when it drains, between two frames, and waits for them', async () => {
      const upstream = await bench.upstream(startEcho())
      const gateway = await bench.gateway({ upstream: upstream.url })
      const sockets = await Promise.all(Array.from({ length: 5 }, () => openSocket(gateway.port)))
      const codes = sockets.map((socket) => new Promise((resolve) => socket.once('close', resolve)))
      for (const socket of sockets) socket.send('x'.repeat(50_000))
      const startedAt = Date.now()
      await gateway.close(5000)
      expect(Date.now() - startedAt).toBeLessThan(3000)
      expect(await Promise.all(codes)).toEqual([1001, 1001, 1001, 1001, 1001])
      expect(gateway.records.map((record) => record.status)).toEqual([101, 101, 101, 101, 101])
    })

    it('puts the goodbye behind a frame of which only half has come', async () => {
      const half = Buffer.from([0x82, 0x05, 0x01, 0x02])
      const rest = Buffer.from([0x03, 0x04, 0x05, 0x81, 0x01])
      let finish = () => {}
      const upstream = await bench.upstream(
        startRawUpstream((connection) =>
          connection.onFirstHead(() => {
            connection.write(SWITCH, half)
            finish = () => connection.write(rest)
          }),
        ),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)
      client.send('GET / HTTP/1.1', ...HANDSHAKE)
      await client.readAnswer()
      expect([...(await client.readBytes(4))]).toEqual([...half])
      const closed = gateway.close(2000)
      finish()
      expect([...(await client.readBytes(7))]).toEqual([3, 4, 5, 0x88, 0x02, 0x03, 0xe9])
      client.destroy()
      await closed
    })

    it('cuts tunnels off when the grace is over', async () => {
      const upstream = await bench.upstream(
        startRawUpstream((connection) => connection.onFirstHead(() => connection.write(SWITCH))),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)
      client.send('GET / HTTP/1.1', ...HANDSHAKE)
      await client.readAnswer()
      await gateway.close(200)
      await client.closed()
      expect(gateway.records).toHaveLength(1)
    })
  })
}
