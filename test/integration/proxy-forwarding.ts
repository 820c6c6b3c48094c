import { describe, expect, it } from 'vitest'
import { useProxy } from '../support/proxy-bench.ts'
import { KSID, TOKEN } from '../support/proxy-gateway.ts'
import { startHttpUpstream, startRawUpstream, startScriptedUpstream } from '../support/upstreams.ts'
import type { ProxyUnderTest } from './proxy-behaviour.ts'

export function describeForwarding(name: string, proxy: ProxyUnderTest): void {
  describe(`${name}: forwarding`, () => {
    const bench = useProxy(proxy)

    it('forwards a request with its target byte for byte and relays the answer', async () => {
      const upstream = await bench.upstream(
        startHttpUpstream((_request, answer) => {
          answer.writeHead(201, 'Made', ['X-One', '1', 'x-one', '2', 'Content-Length', '4'])
          answer.end('made')
        }),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)

      client.send('GET /a//b/%7Euser/?q=%20&q=a+b HTTP/1.1', 'Host: shop.test:81', 'X-Mine: yes')
      const answer = await client.readAnswer()

      expect(answer.status).toBe(201)
      expect(answer.body.toString()).toBe('made')
      expect(answer.framing).toBe('length')
      expect(answer.headers.get('x-one')).toBe('1, 2')
      expect(upstream.seen[0]?.target).toBe('/a//b/%7Euser/?q=%20&q=a+b')
      expect(upstream.seen[0]?.headers['x-mine']).toBe('yes')
      expect(upstream.seen[0]?.headers.host).toBe('shop.test:81')
    })

    it('strips the token, says who calls, and drops a client that says so itself', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const routes = [{ name: 'main', upstream: 'main', keyspace: KSID }]
      const gateway = await bench.gateway({ upstream: upstream.url, routes })
      const client = bench.client(gateway)

      client.send(
        'GET / HTTP/1.1',
        'Host: a',
        `Authorization: Bearer ${TOKEN}`,
        'X-Dripgate-Key-Id: k_forged',
        'Connection: X-Dripgate-Keyspace-Id, keep-alive',
      )
      expect((await client.readAnswer()).status).toBe(200)

      const headers = upstream.seen[0]?.headers
      expect(headers?.authorization).toBeUndefined()
      expect(headers?.['x-dripgate-key-id']).toBe('k_1')
      expect(headers?.['x-dripgate-keyspace-id']).toBe(KSID)
      expect(gateway.records[0]).toMatchObject({ decision: 'allowed', kid: 'k_1', status: 200 })
    })

    it('removes hop-by-hop fields, and those that Connection names, both ways', async () => {
      const upstream = await bench.upstream(
        startScriptedUpstream(
          'HTTP/1.1 200 OK\r\nConnection: X-Secret\r\nX-Secret: 1\r\nProxy-Authenticate: x\r\nKeep-Alive: timeout=9\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n',
        ),
      )
      const seen: string[] = []
      const watching = await bench.upstream(
        startRawUpstream((connection) =>
          connection.onHead((head) => {
            seen.push(head)
            connection.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
          }),
        ),
      )
      const gateway = await bench.gateway({
        upstreams: { down: { targets: [upstream.url] }, up: { targets: [watching.url] } },
        routes: [
          { upstream: 'down', match: { path: '/down' } },
          { upstream: 'up', match: { path: '/up' } },
        ],
      })
      const client = bench.client(gateway)

      client.send('GET /down HTTP/1.1', 'Host: a')
      const answer = await client.readAnswer()
      expect(answer.headers.has('x-secret')).toBe(false)
      expect(answer.headers.has('proxy-authenticate')).toBe(false)
      expect(answer.headers.get('x-kept')).toBe('1')

      client.send(
        'GET /up HTTP/1.1',
        'Host: a',
        'Connection: x-hop, close',
        'X-Hop: 1',
        'Keep-Alive: timeout=1',
        'Proxy-Authorization: Basic x',
        'Upgrade: h2c',
        'TE: gzip',
        'X-Kept: 1',
      )
      expect((await client.readAnswer()).status).toBe(200)
      const head = seen[0]?.toLowerCase() ?? ''
      for (const gone of [
        'x-hop',
        'keep-alive: timeout',
        'proxy-authorization',
        'upgrade',
        '\r\nte:',
        'close',
      ]) {
        expect(head).not.toContain(gone)
      }
      expect(head).toContain('x-kept: 1')
    })

    it('sets Via and X-Request-Id both ways, and the X-Forwarded fields upstream', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)

      client.send('GET / HTTP/1.1', 'Host: a.test', 'X-Request-Id: my-id.1', 'X-Forwarded-For: 6.6.6.6')
      const answer = await client.readAnswer()

      expect(answer.headers.get('x-request-id')).toBe('my-id.1')
      expect(answer.headers.get('via')).toBe('1.1 dripgate')
      const headers = upstream.seen[0]?.headers
      expect(headers?.['x-request-id']).toBe('my-id.1')
      expect(headers?.via).toBe('1.1 dripgate')
      expect(headers?.['x-forwarded-for']).toBe('127.0.0.1')
      expect(headers?.['x-forwarded-proto']).toBe('http')
      expect(headers?.['x-forwarded-host']).toBe('a.test')
      expect(gateway.records[0]?.requestId).toBe('my-id.1')
    })

    it.each([
      ['GET', 'length'],
      ['DELETE', 'length'],
      ['OPTIONS', 'length'],
      ['POST', 'length'],
      ['GET', 'chunked'],
      ['DELETE', 'chunked'],
      ['OPTIONS', 'chunked'],
      ['PATCH', 'chunked'],
    ])('keeps the body of a %s with framing by %s', async (method, framing) => {
      const heads: string[] = []
      const upstream = await bench.upstream(
        startHttpUpstream((request, answer, body) => {
          heads.push(request.rawHeaders.join('\n').toLowerCase())
          answer.end(`${request.method} ${body}`)
        }),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)

      const field = framing === 'length' ? 'Content-Length: 5' : 'Transfer-Encoding: chunked'
      for (let round = 0; round < 2; round++) {
        client.send(`${method} / HTTP/1.1`, 'Host: a', field)
        client.write(framing === 'length' ? 'hello' : '2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n')
        expect((await client.readAnswer()).body.toString()).toBe(`${method} hello`)
      }
      for (const head of heads) {
        expect(head.includes('content-length\n5')).toBe(framing === 'length')
        expect(head.includes('transfer-encoding\nchunked')).toBe(framing === 'chunked')
      }
      expect(upstream.seen).toHaveLength(2)
    })

    it('forwards empty bodies, announced or not, as empty', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)

      client.send('POST / HTTP/1.1', 'Host: a', 'Content-Length: 0')
      await client.readAnswer()
      client.send('POST / HTTP/1.1', 'Host: a')
      await client.readAnswer()
      client.send('PUT / HTTP/1.1', 'Host: a', 'Transfer-Encoding: chunked')
      client.write('0\r\n\r\n')
      await client.readAnswer()
      client.send('GET / HTTP/1.1', 'Host: a', 'Content-Length: 0')
      expect((await client.readAnswer()).status).toBe(200)

      expect(upstream.seen.map((request) => request.body.length)).toEqual([0, 0, 0, 0])
    })

    it('answers HEAD, 204 and 304 without a body and goes on with the connection', async () => {
      const upstream = await bench.upstream(
        startHttpUpstream((request, answer) => {
          if (request.url === '/none') answer.writeHead(204).end()
          else if (request.url === '/same') answer.writeHead(304, { ETag: '"x"' }).end()
          else answer.writeHead(200, { 'Content-Length': '7' }).end('content')
        }),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)

      client.send('HEAD / HTTP/1.1', 'Host: a')
      const head = await client.readAnswer('HEAD')
      expect(head.headers.get('content-length')).toBe('7')
      client.send('GET /none HTTP/1.1', 'Host: a')
      const none = await client.readAnswer()
      expect(none.status).toBe(204)
      expect(none.headers.has('content-length')).toBe(false)
      expect(none.headers.has('transfer-encoding')).toBe(false)
      client.send('GET /same HTTP/1.1', 'Host: a')
      expect((await client.readAnswer()).status).toBe(304)
      client.send('GET / HTTP/1.1', 'Host: a')
      expect((await client.readAnswer()).body.toString()).toBe('content')
    })

    it('relays a chunked answer chunked, and trailers both ways', async () => {
      const upstream = await bench.upstream(
        startHttpUpstream((_request, answer) => {
          answer.writeHead(200, { Trailer: 'X-Sum' })
          answer.write('part ')
          answer.addTrailers([['X-Sum', 'abc']])
          answer.end('two')
        }),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)

      client.send('POST / HTTP/1.1', 'Host: a', 'Transfer-Encoding: chunked', 'Trailer: X-Up')
      client.write('5\r\nhello\r\n0\r\nX-Up: there\r\nX-Dripgate-Key-Id: k_forged\r\n\r\n')
      const answer = await client.readAnswer()

      expect(answer.framing).toBe('chunked')
      expect(answer.body.toString()).toBe('part two')
      expect(answer.trailers.get('x-sum')).toBe('abc')
      expect(upstream.seen[0]?.trailers).toEqual({ 'x-up': 'there' })
    })

    it('relays a body that only the end of the connection ends', async () => {
      const upstream = await bench.upstream(
        startRawUpstream((connection) =>
          connection.onHead(() => {
            connection.write('HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it')
            connection.socket.end()
          }),
        ),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)

      client.send('GET / HTTP/1.1', 'Host: a')
      const answer = await client.readAnswer()
      expect(answer.framing).toBe('chunked')
      expect(answer.body.toString()).toBe('all of it')
    })

    it('speaks HTTP/1.0 to a client that does: no chunks, and it closes', async () => {
      const upstream = await bench.upstream(
        startHttpUpstream((_request, answer) => {
          answer.writeHead(200, { Trailer: 'X-Sum' })
          answer.write('part ')
          answer.addTrailers([['X-Sum', 'abc']])
          answer.end('two')
        }),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)

      client.send('GET / HTTP/1.0')
      const answer = await client.readAnswer()

      expect(answer.framing).toBe('close')
      expect(answer.headers.has('transfer-encoding')).toBe(false)
      expect(answer.body.toString()).toBe('part two')
      await client.closed()
    })

    it('takes pipelined requests one at a time and answers in their order', async () => {
      let running = 0
      let runningMax = 0
      const upstream = await bench.upstream(
        startHttpUpstream((request, answer) => {
          runningMax = Math.max(runningMax, ++running)
          setTimeout(() => {
            running--
            answer.end(request.url)
          }, 10)
        }),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)

      client.write(
        'GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc',
      )
      client.write(
        'GET /3 HTTP/1.1\r\nHost: a\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
      )
      const bodies: string[] = []
      for (let i = 0; i < 4; i++) bodies.push((await client.readAnswer()).body.toString())

      expect(bodies).toEqual(['/1', '/2', '/3', '/4'])
      expect(runningMax).toBe(1)
      await client.closed()
    })

    it('reuses connections to the upstream', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)
      for (let i = 0; i < 20; i++) {
        client.send('GET / HTTP/1.1', 'Host: a')
        await client.readAnswer()
      }
      expect(upstream.seen).toHaveLength(20)
      expect(upstream.connections).toBe(1)
    })
  })
}
