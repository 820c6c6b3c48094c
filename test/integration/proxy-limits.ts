import { describe, expect, it } from 'vitest'
import { useProxy } from '../support/proxy-bench.ts'
import { eventually, KSID, type TestGateway } from '../support/proxy-gateway.ts'
import { requestOnce } from '../support/raw-client.ts'
import {
  findClosedPort,
  startHttpUpstream,
  startRawUpstream,
  startScriptedUpstream,
  startStreamingUpstream,
} from '../support/upstreams.ts'
import type { ProxyUnderTest } from './proxy-behaviour.ts'

export function describeLimits(name: string, proxy: ProxyUnderTest): void {
  describe(`${name}: limits and timeouts`, () => {
    const bench = useProxy(proxy)

    async function record(gateway: TestGateway) {
      await eventually(() => gateway.records.length > 0, 'a record')
      return gateway.records.at(-1)
    }

    it('refuses a body that is announced to be too large without asking the upstream', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const routes = [{ upstream: 'main', max_body: 10 }]
      const gateway = await bench.gateway({ upstream: upstream.url, routes })
      const client = bench.client(gateway)
      client.send('POST / HTTP/1.1', 'Host: a', 'Content-Length: 11')
      const answer = await client.readAnswer()
      expect(answer.status).toBe(413)
      expect(answer.headers.get('connection')).toBe('close')
      client.write('hello world')
      await client.closed()
      expect(upstream.connections).toBe(0)
    })

    it('takes a body of exactly the limit, and none at all where the limit is 0', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const routes = [
        { upstream: 'main', max_body: 5, match: { path: '/five' } },
        { upstream: 'main', max_body: 0, match: { path: '/none' } },
      ]
      const gateway = await bench.gateway({ upstream: upstream.url, routes })
      const post = (path: string) => [`POST ${path} HTTP/1.1`, 'Host: a']
      expect((await requestOnce(gateway.port, [...post('/five'), 'Content-Length: 5'], 'hello')).status).toBe(
        200,
      )
      expect((await requestOnce(gateway.port, [...post('/none'), 'Content-Length: 1'], 'h')).status).toBe(413)
      expect((await requestOnce(gateway.port, [...post('/none'), 'Content-Length: 0'])).status).toBe(200)
    })

    it('cuts the upstream request before it sees what is over the limit of a chunked body', async () => {
      const arrived: Buffer[] = []
      const upstream = await bench.upstream(
        startStreamingUpstream((request) => request.on('data', (chunk) => arrived.push(chunk))),
      )
      const routes = [{ upstream: 'main', max_body: 10 }]
      const gateway = await bench.gateway({ upstream: upstream.url, routes })
      const client = bench.client(gateway)
      client.send('POST / HTTP/1.1', 'Host: a', 'Transfer-Encoding: chunked')
      client.write('8\r\n12345678\r\n')
      await eventually(() => Buffer.concat(arrived).length === 8, 'the first chunk upstream')
      client.write('8\r\nEXCESSIV\r\n')
      expect((await client.readAnswer()).status).toBe(413)
      await eventually(() => upstream.brokenOff === 1, 'the upstream told')
      expect(Buffer.concat(arrived).toString()).toBe('12345678')
      await client.closed()
    })

    it('answers a refused request at once, reads a small rest and goes on with the connection', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const routes = [{ upstream: 'main', keyspace: KSID }]
      const gateway = await bench.gateway({ upstream: upstream.url, routes })
      const client = bench.client(gateway)
      for (let i = 0; i < 3; i++) {
        client.send('POST / HTTP/1.1', 'Host: a', 'Content-Length: 40')
        expect((await client.readAnswer()).status).toBe(401)
        client.write('GET /smuggled HTTP/1.1\r\nHost: aaaaaaaa\r\n\r\n'.slice(0, 40))
      }
      client.send('GET /last HTTP/1.1', 'Host: a', 'Connection: close')
      expect((await client.readAnswer()).status).toBe(401)
      await client.closed()
      expect(gateway.records.map((each) => each.path)).toEqual(['/', '/', '/', '/last'])
    })

    it('does not read the whole of a large refused body, and lets the client see the answer', async () => {
      const routes = [{ upstream: 'main', keyspace: KSID, max_body: 'unlimited' }]
      const gateway = await bench.gateway({ upstream: 'http://127.0.0.1:1', routes })
      for (const field of ['Content-Length: 100000000', 'Transfer-Encoding: chunked']) {
        const client = bench.client(gateway)
        client.send('POST / HTTP/1.1', 'Host: a', field)
        client.write(field.startsWith('T') ? '5f5e100\r\n' : '', Buffer.alloc(4 * 1024 * 1024))
        const answer = await client.readAnswer()
        expect(answer.status).toBe(401)
        expect(answer.headers.get('connection')).toBe('close')
        await client.closed()
      }
      expect(gateway.records).toHaveLength(2)
    })

    it.each([
      ['431', { max_headers: 5 }, Array.from({ length: 6 }, (_, i) => `X-${i}: 1`)],
      ['431', { max_header_bytes: 2048 }, [`X-Long: ${'x'.repeat(3000)}`]],
    ])('says %s where the head exceeds %j', async (status, settings, fields) => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({ upstream: upstream.url, gateway: settings })
      const client = bench.client(gateway)
      client.send('GET / HTTP/1.1', 'Host: a', ...fields)
      const answer = await client.readAnswer()
      expect(String(answer.status)).toBe(status)
      expect(JSON.parse(answer.body.toString()).error.code).toBe('headers_too_large')
      expect(answer.headers.get('connection')).toBe('close')
      await client.closed()
      expect(await record(gateway)).toMatchObject({ decision: 'rejected', status: 431 })
      expect(upstream.connections).toBe(0)
    })

    it('takes exactly as many fields as allowed', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({ upstream: upstream.url, gateway: { max_headers: 5 } })
      const fields = Array.from({ length: 4 }, (_, i) => `X-${i}: 1`)
      expect((await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a', ...fields])).status).toBe(200)
    })

    it.each([300, 3000, 60_000])('says 414 to a target of %d bytes where 200 are allowed', async (bytes) => {
      const upstream = await bench.upstream(startHttpUpstream())
      const settings = { max_target_bytes: 200, max_header_bytes: 2048 }
      const gateway = await bench.gateway({ upstream: upstream.url, gateway: settings })
      const client = bench.client(gateway)
      client.send(`GET /${'x'.repeat(bytes)} HTTP/1.1`, 'Host: a')
      const answer = await client.readAnswer()
      expect(answer.status).toBe(414)
      await client.closed()
      expect(await record(gateway)).toMatchObject({ decision: 'rejected', status: 414 })
    })

    it('says 408 where the head does not come in time, however steadily it trickles', async () => {
      const gateway = await bench.gateway({
        upstream: 'http://127.0.0.1:1',
        gateway: { timeouts: { headers: 400 } },
      })
      const client = bench.client(gateway)
      const startedAt = Date.now()
      client.write('GET / HTTP/1.1\r\nHost: a\r\n')
      const trickle = setInterval(() => client.write('X-Slow: 1\r\n'), 50)
      const answer = await client.readAnswer()
      clearInterval(trickle)
      expect(answer.status).toBe(408)
      expect(JSON.parse(answer.body.toString()).error.code).toBe('request_timeout')
      expect(answer.headers.get('connection')).toBe('close')
      expect(Date.now() - startedAt).toBeLessThan(1400)
      await client.closed()
      expect(await record(gateway)).toMatchObject({ decision: 'rejected', status: 408 })
    })

    it('forwards nothing that comes behind a 408 or behind an answer that closes', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({ upstream: upstream.url, gateway: { timeouts: { headers: 300 } } })
      const late = bench.client(gateway, { allowHalfOpen: true })
      late.write('GET /late HTTP/1.1\r\n')
      expect((await late.readAnswer()).status).toBe(408)
      late.write('Host: a\r\n\r\n')
      const closing = bench.client(gateway, { allowHalfOpen: true })
      closing.send('GET /first HTTP/1.1', 'Host: a', 'Connection: close')
      await closing.readAnswer()
      closing.send('GET /second HTTP/1.1', 'Host: a')
      await Promise.all([late.readAll(), closing.readAll()])
      await requestOnce(gateway.port, ['GET /third HTTP/1.1', 'Host: a'])
      expect(upstream.seen.map((request) => request.target)).toEqual(['/first', '/third'])
    })

    it('closes a connection on which nothing ever comes, and one that idles between requests', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const timeouts = { headers: 300, idle: 300 }
      const gateway = await bench.gateway({ upstream: upstream.url, gateway: { timeouts } })
      const silent = bench.client(gateway)
      const idle = bench.client(gateway)
      idle.send('GET / HTTP/1.1', 'Host: a')
      await idle.readAnswer()
      await Promise.all([silent.closed(), idle.closed()])
      expect(silent.received + idle.received).toBe('')
      expect(gateway.records).toHaveLength(1)
    })

    it('says 408 where a body falls silent, and tells the upstream', async () => {
      const upstream = await bench.upstream(startStreamingUpstream((request) => request.resume()))
      const gateway = await bench.gateway({ upstream: upstream.url, gateway: { timeouts: { body: 300 } } })
      for (const [index, field] of ['Content-Length: 10', 'Transfer-Encoding: chunked'].entries()) {
        const client = bench.client(gateway)
        client.send('POST / HTTP/1.1', 'Host: a', field)
        client.write('3\r\nabc\r\n')
        const answer = await client.readAnswer()
        expect(answer.status).toBe(408)
        await client.closed()
        await eventually(() => upstream.brokenOff === index + 1, 'the upstream told')
      }
    })

    it('lets a slow body live as long as something comes', async () => {
      const upstream = await bench.upstream(startHttpUpstream((_request, answer, body) => answer.end(body)))
      const gateway = await bench.gateway({ upstream: upstream.url, gateway: { timeouts: { body: 400 } } })
      const client = bench.client(gateway)
      client.send('POST / HTTP/1.1', 'Host: a', 'Content-Length: 12')
      for (let i = 0; i < 12; i++) {
        client.write('x')
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
      expect((await client.readAnswer()).body.toString()).toBe('x'.repeat(12))
    })

    it('cuts off a client that takes nothing of its answer for too long', async () => {
      const upstream = await bench.upstream(
        startStreamingUpstream((_request, answer) => {
          answer.write(Buffer.alloc(64 * 1024 * 1024))
        }),
      )
      const routes = [{ upstream: 'main', timeouts: { idle: 400 } }]
      const gateway = await bench.gateway({ upstream: upstream.url, routes })
      const client = bench.client(gateway)
      client.send('GET / HTTP/1.1', 'Host: a')
      await client.readHead()
      client.socket.pause()
      await eventually(() => gateway.records.length === 1, 'the exchange ended')
      expect(gateway.records[0]).toMatchObject({ status: 200, aborted: true })
      await eventually(() => upstream.openSockets.size === 0, 'the upstream socket closed')
    })

    it('says 502 where the upstream refuses, resets, hangs up, or answers nonsense', async () => {
      const closed = await findClosedPort()
      const resetting = await bench.upstream(
        startRawUpstream((connection) => connection.onHead(() => connection.socket.resetAndDestroy())),
      )
      const hangingUp = await bench.upstream(
        startRawUpstream((connection) => connection.onHead(() => connection.socket.end())),
      )
      const nonsense = await bench.upstream(startScriptedUpstream('SSH-2.0-OpenSSH_9.2\r\n\r\n'))
      for (const url of [`http://127.0.0.1:${closed}`, resetting.url, hangingUp.url, nonsense.url]) {
        const gateway = await bench.gateway({ upstream: url })
        for (const fields of [[], ['Transfer-Encoding: chunked']]) {
          const body = fields.length > 0 ? '0\r\n\r\n' : ''
          const answer = await requestOnce(gateway.port, ['POST / HTTP/1.1', 'Host: a', ...fields], body)
          expect(answer.status).toBe(502)
          expect(JSON.parse(answer.body.toString()).error.code).toBe('upstream_unreachable')
        }
        expect(await record(gateway)).toMatchObject({
          decision: 'open',
          status: 502,
          upstreamId: 0,
          upstreamName: 'main',
        })
      }
    })

    it.each(['GET', 'chunked POST'])(
      'says 504 where the upstream does not answer a %s in time',
      async (kind) => {
        const upstream = await bench.upstream(startRawUpstream(() => {}))
        const routes = [{ upstream: 'main', timeouts: { response: 300 } }]
        const gateway = await bench.gateway({ upstream: upstream.url, routes })
        const lines =
          kind === 'GET'
            ? ['GET / HTTP/1.1', 'Host: a']
            : ['POST / HTTP/1.1', 'Host: a', 'Transfer-Encoding: chunked']
        const answer = await requestOnce(gateway.port, lines, kind === 'GET' ? '' : '1\r\nx\r\n0\r\n\r\n')
        expect(answer.status).toBe(504)
        expect(JSON.parse(answer.body.toString()).error.code).toBe('upstream_timeout')
        await eventually(() => upstream.openSockets.size === 0, 'the upstream connection closed')
      },
    )

    it.each(['GET', 'POST'])('says 504 where a connection cannot be opened in time (%s)', async (method) => {
      // TLS towards a server that never says hello: the connection is not open before that.
      const upstream = await bench.upstream(startRawUpstream(() => {}))
      const gateway = await bench.gateway({
        upstreams: { main: { targets: [`https://127.0.0.1:${upstream.port}`], timeouts: { connect: 300 } } },
      })
      const fields = method === 'POST' ? ['Transfer-Encoding: chunked'] : []
      const answer = await requestOnce(
        gateway.port,
        [`${method} / HTTP/1.1`, 'Host: a', ...fields],
        method === 'POST' ? '0\r\n\r\n' : '',
      )
      expect(answer.status).toBe(504)
    })

    it.each(['GET', 'POST'])('breaks off where the body of an answer falls silent (%s)', async (method) => {
      const upstream = await bench.upstream(
        startStreamingUpstream((request, answer) => {
          request.resume()
          answer.write('some')
        }),
      )
      const routes = [{ upstream: 'main', timeouts: { idle: 300 } }]
      const gateway = await bench.gateway({ upstream: upstream.url, routes })
      const client = bench.client(gateway)
      client.send(
        `${method} / HTTP/1.1`,
        'Host: a',
        ...(method === 'POST' ? ['Transfer-Encoding: chunked'] : []),
      )
      if (method === 'POST') client.write('0\r\n\r\n')
      await client.sees('some')
      await client.closed()
      expect(client.received.endsWith('0\r\n\r\n')).toBe(false)
      expect(await record(gateway)).toMatchObject({ status: 200, aborted: true })
    })
  })
}
