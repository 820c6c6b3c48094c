import { readFileSync } from 'node:fs'
import { connect as connectTls } from 'node:tls'
import { describe, expect, it } from 'vitest'
import { useProxy } from '../support/proxy-bench.ts'
import { eventually } from '../support/proxy-gateway.ts'
import { requestOnce } from '../support/raw-client.ts'
import { CA_FILE, TEST_TLS } from '../support/test-tls.ts'
import {
  findClosedPort,
  type HttpUpstream,
  startHttpsUpstream,
  startHttpUpstream,
  startRawUpstream,
  startStreamingUpstream,
} from '../support/upstreams.ts'
import type { ProxyUnderTest } from './proxy-behaviour.ts'

export function describeTargets(name: string, proxy: ProxyUnderTest): void {
  describe(`${name}: targets and connections`, () => {
    const bench = useProxy(proxy)

    function startNamed(name: string): Promise<HttpUpstream> {
      return bench.upstream(startHttpUpstream((_request, answer) => answer.end(name)))
    }

    it('takes the targets in turns', async () => {
      const upstreams = [await startNamed('a'), await startNamed('b'), await startNamed('c')]
      const gateway = await bench.gateway({ upstream: upstreams.map((upstream) => upstream.url) })
      let order = ''
      for (let i = 0; i < 6; i++)
        order += (await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a'])).body
      expect(order).toBe('abcabc')
    })

    it('prefers the target with the fewest requests in flight', async () => {
      const slow = await bench.upstream(startStreamingUpstream(() => {}))
      const quick = await startNamed('quick')
      const gateway = await bench.gateway({
        upstreams: { main: { targets: [slow.url, quick.url], balance: 'least_requests' } },
      })
      const hanging = bench.client(gateway)
      hanging.send('GET / HTTP/1.1', 'Host: a')
      await eventually(() => slow.begun === 1, 'the slow one busy')
      for (let i = 0; i < 5; i++) {
        expect((await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a'])).body.toString()).toBe('quick')
      }
    })

    it('skips a target that refuses connections, also for requests with a body', async () => {
      const closed = await findClosedPort()
      const upstream = await bench.upstream(startHttpUpstream((_request, answer, body) => answer.end(body)))
      const gateway = await bench.gateway({ upstream: [`http://127.0.0.1:${closed}`, upstream.url] })
      for (let i = 0; i < 4; i++) {
        const lines = ['POST / HTTP/1.1', 'Host: a', 'Content-Length: 4']
        expect((await requestOnce(gateway.port, lines, 'body')).body.toString()).toBe('body')
        const chunked = ['POST / HTTP/1.1', 'Host: a', 'Transfer-Encoding: chunked']
        expect((await requestOnce(gateway.port, chunked, '4\r\nbody\r\n0\r\n\r\n')).body.toString()).toBe(
          'body',
        )
      }
      expect(upstream.seen).toHaveLength(8)
    })

    it('says 502 once, and records once, when every target refuses', async () => {
      const targets = [await findClosedPort(), await findClosedPort(), await findClosedPort()]
      const gateway = await bench.gateway({ upstream: targets.map((port) => `http://127.0.0.1:${port}`) })
      expect((await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a'])).status).toBe(502)
      expect(gateway.records).toHaveLength(1)
    })

    it('opens no more connections than allowed and lets the others wait their turn', async () => {
      let running = 0
      let runningMax = 0
      const upstream = await bench.upstream(
        startHttpUpstream((_request, answer) => {
          runningMax = Math.max(runningMax, ++running)
          setTimeout(() => {
            running--
            answer.end('ok')
          }, 5)
        }),
      )
      const gateway = await bench.gateway({
        upstreams: { main: { targets: [upstream.url], max_connections: 3 } },
      })
      const answers = await Promise.all(
        Array.from({ length: 30 }, (_, i) =>
          i % 2 === 0
            ? requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a'])
            : requestOnce(
                gateway.port,
                ['PUT / HTTP/1.1', 'Host: a', 'Transfer-Encoding: chunked'],
                '0\r\n\r\n',
              ),
        ),
      )
      expect(answers.every((answer) => answer.status === 200)).toBe(true)
      expect(runningMax).toBe(3)
    })

    it('says 503 to a request that waits too long for a free connection, and forgets it', async () => {
      const upstream = await bench.upstream(startStreamingUpstream(() => {}))
      const gateway = await bench.gateway({
        upstreams: { main: { targets: [upstream.url], max_connections: 1, timeouts: { connect: 200 } } },
      })
      const hanging = bench.client(gateway)
      hanging.send('GET / HTTP/1.1', 'Host: a')
      await eventually(() => upstream.begun === 1, 'the connection taken')
      for (const fields of [[], ['Transfer-Encoding: chunked']]) {
        const answer = await requestOnce(
          gateway.port,
          ['GET / HTTP/1.1', 'Host: a', ...fields],
          fields[0] && '0\r\n\r\n',
        )
        expect(answer.status).toBe(503)
        expect(JSON.parse(String(answer.body)).error.code).toBe('no_upstream')
        expect(answer.headers.get('retry-after')).toBe('1')
      }
      const leaving = bench.client(gateway)
      leaving.send('GET / HTTP/1.1', 'Host: a')
      leaving.destroy()
      hanging.destroy()
      await eventually(() => upstream.openSockets.size === 0, 'all given up')
      expect(upstream.begun).toBe(1)
    })

    it('lets the next target have a request that waited for the first in vain', async () => {
      const busy = await bench.upstream(startStreamingUpstream(() => {}))
      const free = await bench.upstream(startHttpUpstream())
      const upstreams = {
        main: { targets: [busy.url, free.url], max_connections: 1, timeouts: { connect: 200 } },
      }
      const gateway = await bench.gateway({ upstreams })
      bench.client(gateway).send('GET / HTTP/1.1', 'Host: a')
      await eventually(() => busy.begun === 1, 'the connection taken')
      for (let i = 0; i < 3; i++) {
        expect((await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a'])).status).toBe(200)
      }
      expect([busy.begun, free.seen.length]).toEqual([1, 3])
    })

    it.each(['POST', 'PUT', 'DELETE'])('never sends a %s twice, however connections drop', async (method) => {
      let heads = 0
      const upstream = await bench.upstream(
        startRawUpstream((connection) => {
          let onConnection = 0
          connection.onHead(() => {
            heads++
            // The second request on a connection is read, and the connection reset.
            if (++onConnection === 2) connection.socket.resetAndDestroy()
            else connection.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
          })
        }),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      let failed = 0
      for (let i = 0; i < 20; i++) {
        const answer = await requestOnce(gateway.port, [
          `${method} / HTTP/1.1`,
          'Host: a',
          'Content-Length: 0',
        ])
        if (answer.status === 502) failed++
        else expect(answer.status).toBe(200)
      }
      expect(heads).toBe(20)
      expect(failed).toBe(10)
    })

    it('repeats a GET once, on a fresh connection, when the reused one turns out dead', async () => {
      let heads = 0
      const upstream = await bench.upstream(
        startRawUpstream((connection) => {
          let onConnection = 0
          connection.onHead(() => {
            heads++
            if (++onConnection === 2) connection.socket.resetAndDestroy()
            else connection.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
          })
        }),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      for (let i = 0; i < 10; i++) {
        expect((await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a'])).status).toBe(200)
      }
      // The first goes through; each of the others meets a used connection and is sent again.
      expect(heads).toBe(19)
    })

    it('repeats a GET at most once, and not on a fresh connection', async () => {
      let heads = 0
      const upstream = await bench.upstream(
        startRawUpstream((connection) =>
          connection.onHead(() => {
            heads++
            connection.socket.resetAndDestroy()
          }),
        ),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      expect((await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a'])).status).toBe(502)
      expect(heads).toBe(1)
    })

    it('does not repeat a GET of which an answer has begun', async () => {
      let heads = 0
      const upstream = await bench.upstream(
        startRawUpstream((connection) => {
          let onConnection = 0
          connection.onHead(() => {
            heads++
            if (++onConnection === 1) {
              connection.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
              return
            }
            connection.write('HTTP/1.1 2')
            setTimeout(() => connection.socket.destroy(), 20)
          })
        }),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      expect((await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a'])).status).toBe(200)
      expect((await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a'])).status).toBe(502)
      expect(heads).toBe(2)
    })

    it('gets through to an upstream that closes its idle connections', async () => {
      const upstream = await bench.upstream(
        startRawUpstream((connection) =>
          connection.onHead(() => {
            connection.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
            setTimeout(() => connection.socket.end(), 5)
          }),
        ),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      for (let i = 0; i < 15; i++) {
        const answer = await requestOnce(gateway.port, ['POST / HTTP/1.1', 'Host: a', 'Content-Length: 0'])
        expect(answer.status).toBe(200)
        await new Promise((resolve) => setTimeout(resolve, 15))
      }
    })

    it.each(['GET', 'POST'])(
      'verifies an https target by its own name, never by the Host of the client (%s)',
      async (method) => {
        const names: unknown[] = []
        const upstream = await bench.upstream(
          startHttpsUpstream(TEST_TLS, (request, answer) => {
            names.push([Reflect.get(request.socket, 'servername'), request.headers.host])
            answer.end('safe')
          }),
        )
        const tls = { ca: CA_FILE, servername: 'origin.test' }
        const gateway = await bench.gateway({ upstreams: { main: { targets: [upstream.url], tls } } })
        const fields = method === 'POST' ? ['Transfer-Encoding: chunked'] : []
        const client = bench.client(gateway)
        for (const host of ['one.test', 'two.test', 'three.test']) {
          client.send(`${method} / HTTP/1.1`, `Host: ${host}`, ...fields)
          if (method === 'POST') client.write('0\r\n\r\n')
          expect((await client.readAnswer()).body.toString()).toBe('safe')
        }
        expect(names).toEqual([
          ['origin.test', 'one.test'],
          ['origin.test', 'two.test'],
          ['origin.test', 'three.test'],
        ])
        expect(upstream.connections).toBe(1)
      },
    )

    it('verifies an https target that is named by its address, without SNI', async () => {
      const names: unknown[] = []
      const upstream = await bench.upstream(
        startHttpsUpstream(TEST_TLS, (request, answer) => {
          names.push(Reflect.get(request.socket, 'servername'))
          answer.end('safe')
        }),
      )
      const gateway = await bench.gateway({
        upstreams: { main: { targets: [upstream.url], tls: { ca: CA_FILE } } },
      })
      for (const host of ['one.test', 'origin.test']) {
        expect((await requestOnce(gateway.port, ['GET / HTTP/1.1', `Host: ${host}`])).body.toString()).toBe(
          'safe',
        )
      }
      expect(names).toEqual([false, false])
      expect(upstream.connections).toBe(1)
    })

    it.each(['GET', 'POST'])(
      'says 502 to a target whose certificate it cannot trust (%s)',
      async (method) => {
        const upstream = await bench.upstream(startHttpsUpstream(TEST_TLS))
        for (const tls of [{}, { ca: CA_FILE, servername: 'other.test' }]) {
          const gateway = await bench.gateway({ upstreams: { main: { targets: [upstream.url], tls } } })
          const fields = method === 'POST' ? ['Transfer-Encoding: chunked'] : []
          const answer = await requestOnce(
            gateway.port,
            [`${method} / HTTP/1.1`, 'Host: origin.test', ...fields],
            method === 'POST' ? '0\r\n\r\n' : '',
          )
          expect(answer.status).toBe(502)
        }
        expect(upstream.begun).toBe(0)
      },
    )

    it('speaks TLS to its clients', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({ upstream: upstream.url, tls: TEST_TLS })
      const client = connectTls({
        port: gateway.port,
        host: '127.0.0.1',
        servername: 'origin.test',
        ca: readFileSync(CA_FILE),
      })
      const received = new Promise<string>((resolve, reject) => {
        let text = ''
        client.on('data', (chunk) => {
          text += chunk
        })
        client.on('end', () => resolve(text))
        client.on('error', reject)
      })
      client.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
      expect(await received).toMatch(/^HTTP\/1\.1 200 /)
      expect(upstream.seen[0]?.headers['x-forwarded-proto']).toBe('https')
      client.destroy()

      const plain = bench.client(gateway)
      plain.send('GET / HTTP/1.1', 'Host: a')
      await plain.closed()
      expect(gateway.records).toHaveLength(1)
    })
  })
}
