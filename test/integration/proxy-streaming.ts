import type { IncomingMessage, ServerResponse } from 'node:http'
import { describe, expect, it } from 'vitest'
import { useProxy } from '../support/proxy-bench.ts'
import { eventually, KSID } from '../support/proxy-gateway.ts'
import { startHttpUpstream, startRawUpstream, startStreamingUpstream } from '../support/upstreams.ts'
import type { ProxyUnderTest } from './proxy-behaviour.ts'

const MIB = 1024 * 1024

export function describeStreaming(name: string, proxy: ProxyUnderTest): void {
  describe(`${name}: streaming`, () => {
    const bench = useProxy(proxy)
    const unlimited = [{ name: 'main', upstream: 'main', max_body: 'unlimited' }]

    it('passes each event on as it comes', async () => {
      let answering: ServerResponse | undefined
      const upstream = await bench.upstream(
        startStreamingUpstream((_request, answer) => {
          answering = answer
          answer.writeHead(200, { 'Content-Type': 'text/event-stream' })
          answer.flushHeaders()
        }),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)

      client.send('GET /events HTTP/1.1', 'Host: a')
      expect((await client.readHead()).headers.get('content-type')).toBe('text/event-stream')
      for (const event of ['data: 1\n\n', 'data: 2\n\n']) {
        answering?.write(event)
        expect(await client.readLine()).toBe('9')
        expect((await client.readBytes(9)).toString()).toBe(event)
        await client.readLine()
      }
    })

    it.each(['length', 'chunked'])(
      'passes on each piece of a body framed by %s as it comes',
      async (framing) => {
        const arrived: string[] = []
        const upstream = await bench.upstream(
          startStreamingUpstream((request, answer) => {
            request.on('data', (chunk) => arrived.push(String(chunk)))
            request.on('end', () => answer.end(arrived.join('')))
          }),
        )
        const gateway = await bench.gateway({ upstream: upstream.url })
        const client = bench.client(gateway)
        const isChunked = framing === 'chunked'

        client.send(
          'POST / HTTP/1.1',
          'Host: a',
          isChunked ? 'Transfer-Encoding: chunked' : 'Content-Length: 6',
        )
        for (const [index, piece] of ['ab', 'cd', 'ef'].entries()) {
          client.write(isChunked ? `2\r\n${piece}\r\n` : piece)
          await eventually(() => arrived.length === index + 1, `piece ${index}`)
        }
        if (isChunked) client.write('0\r\n\r\n')
        expect((await client.readAnswer()).body.toString()).toBe('abcdef')
      },
    )

    it('does not read an answer faster than the client takes it', async () => {
      let written = 0
      const upstream = await bench.upstream(
        startStreamingUpstream((_request, answer) => {
          const chunk = Buffer.alloc(64 * 1024)
          const pump = () => {
            while (!answer.destroyed && written < 256 * MIB) {
              written += chunk.length
              if (!answer.write(chunk)) return
            }
          }
          answer.on('drain', pump)
          pump()
        }),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)
      client.send('GET / HTTP/1.1', 'Host: a')
      await client.readHead()
      client.socket.pause()

      await eventually(() => isSteady(() => written), 'the upstream held back')
      // Socket buffers of four sockets and some chunks: far from what the upstream has to say.
      expect(written).toBeLessThan(32 * MIB)
      const before = written
      client.socket.resume()
      await eventually(() => written > before + 8 * MIB, 'the upstream let go')
      client.destroy()
    })

    it.each(['length', 'chunked'])(
      'does not read a body framed by %s faster than the upstream takes it',
      async (framing) => {
        let reading: IncomingMessage | undefined
        const upstream = await bench.upstream(
          startStreamingUpstream((request) => {
            reading = request
            request.pause()
          }),
        )
        const gateway = await bench.gateway({ upstream: upstream.url, routes: unlimited })
        const client = bench.client(gateway)
        const total = 256 * MIB
        const isChunked = framing === 'chunked'
        client.send(
          'POST / HTTP/1.1',
          'Host: a',
          isChunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${total}`,
        )

        let sent = 0
        const chunk = Buffer.alloc(64 * 1024)
        const pump = () => {
          while (sent < total && !client.isClosed) {
            sent += chunk.length
            if (isChunked) client.socket.write('10000\r\n')
            const isTaken = client.socket.write(chunk)
            if (isChunked) client.socket.write('\r\n')
            if (!isTaken) return
          }
        }
        client.socket.on('drain', pump)
        pump()
        await eventually(() => isSteady(() => sent), 'the client held back')
        expect(sent).toBeLessThan(32 * MIB)
        const before = sent
        reading?.resume()
        await eventually(() => sent > before + 8 * MIB, 'the client let go')
        client.destroy()
        await eventually(() => upstream.brokenOff === 1, 'the upstream told')
      },
    )

    it('moves large bodies both ways without changing a byte', async () => {
      const upstream = await bench.upstream(startHttpUpstream((_request, answer, body) => answer.end(body)))
      const gateway = await bench.gateway({ upstream: upstream.url, routes: unlimited })
      const body = Buffer.alloc(5 * MIB + 17)
      for (let i = 0; i < body.length; i++) body[i] = (i * 31 + (i >> 8)) & 0xff
      for (const fields of [[`Content-Length: ${body.length}`], ['Transfer-Encoding: chunked']]) {
        const client = bench.client(gateway)
        client.send('PUT / HTTP/1.1', 'Host: a', ...fields)
        if (fields[0]?.startsWith('T')) client.write(`${body.length.toString(16)}\r\n`, body, '\r\n0\r\n\r\n')
        else client.write(body)
        expect((await client.readAnswer()).body.equals(body)).toBe(true)
        expect(gateway.records.at(-1)).toMatchObject({ bytesIn: body.length, bytesOut: body.length })
      }
    })

    it('gives each of many clients that stall in turns its own bytes and no others', async () => {
      const size = 3 * MIB
      const upstream = await bench.upstream(
        startStreamingUpstream((request, answer) => {
          answer.writeHead(200, { 'Content-Length': size })
          answer.end(Buffer.alloc(size, request.url?.slice(1)))
        }),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const marks = [...'abcdefgh']
      const clients = marks.map((mark) => {
        const client = bench.client(gateway)
        client.send(`GET /${mark} HTTP/1.1`, 'Host: a')
        return client
      })
      // Every one of them stops with its socket full, and goes on while others stand still.
      const stalling = setInterval(() => {
        for (const { socket } of clients) socket.isPaused() ? socket.resume() : socket.pause()
      }, 5)
      for (const [index, client] of clients.entries()) {
        if (index % 2 === 0) client.socket.pause()
        const { body } = await client.readAnswer()
        expect(body.equals(Buffer.alloc(size, marks[index]))).toBe(true)
      }
      clearInterval(stalling)
    })

    it('aborts the upstream request when the client leaves, before the answer and in its middle', async () => {
      const upstream = await bench.upstream(
        startStreamingUpstream((request, answer) => {
          if (request.url === '/begun') answer.write('some')
        }),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      for (const path of ['/waiting', '/begun']) {
        const client = bench.client(gateway)
        client.send(`GET ${path} HTTP/1.1`, 'Host: a')
        if (path === '/begun') await client.sees('some')
        else await eventually(() => upstream.begun === 1, 'the request upstream')
        client.destroy()
        await eventually(() => upstream.openSockets.size === 0, 'the upstream connection closed')
      }
      await eventually(() => gateway.records.length === 2, 'both recorded')
      expect(gateway.records.map(({ status, aborted }) => [status, aborted])).toEqual([
        [0, false],
        [200, true],
      ])
    })

    // The node engine takes nothing off the socket behind a request that waits.
    const behinds = name.startsWith('node front')
      ? ['\r\n']
      : ['\r\n', 'GET /next HTTP/1.1\r\nHost: a\r\n\r\n']

    it.each(behinds)(
      'aborts the upstream request when the client leaves with %j behind it',
      async (behind) => {
        const upstream = await bench.upstream(startStreamingUpstream(() => {}))
        const gateway = await bench.gateway({ upstream: upstream.url })
        for (const how of ['FIN', 'RST']) {
          const client = bench.client(gateway)
          client.write(`POST /waiting HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi${behind}`)
          await eventually(() => upstream.openSockets.size === 1, 'the request upstream')
          if (how === 'RST') client.reset()
          else client.destroy()
          await eventually(() => upstream.openSockets.size === 0, 'the upstream connection closed')
        }
      },
    )

    it.each(['FIN', 'RST'])(
      'aborts the upstream request when the client leaves in the middle of its body (%s)',
      async (how) => {
        for (const field of ['Content-Length: 1000', 'Transfer-Encoding: chunked']) {
          const upstream = await bench.upstream(startStreamingUpstream((request) => request.resume()))
          const gateway = await bench.gateway({ upstream: upstream.url })
          const client = bench.client(gateway)
          client.send('POST / HTTP/1.1', 'Host: a', field)
          client.write('3\r\nabc\r\n')
          await eventually(() => upstream.begun === 1, 'the request upstream')
          if (how === 'RST') client.reset()
          else client.destroy()
          await eventually(() => upstream.brokenOff === 1, 'the upstream told')
          await eventually(() => gateway.records.length === 1, 'recorded')
          expect(gateway.records[0]?.status).toBe(0)
        }
      },
    )

    it('sends 100 (Continue) only once the request may pass, and then the body', async () => {
      const upstream = await bench.upstream(startHttpUpstream((_request, answer, body) => answer.end(body)))
      const gateway = await bench.gateway({ upstream: upstream.url })
      for (const field of ['Content-Length: 2', 'Transfer-Encoding: chunked']) {
        const client = bench.client(gateway)
        client.send('POST / HTTP/1.1', 'Host: a', field, 'Expect: 100-continue')
        expect((await client.readAnswer()).status).toBe(100)
        client.write(field.startsWith('C') ? 'hi' : '2\r\nhi\r\n0\r\n\r\n')
        const answer = await client.readAnswer()
        expect([answer.status, answer.body.toString()]).toEqual([200, 'hi'])
      }
      expect(upstream.seen[0]?.headers.expect).toBeUndefined()
    })

    it('refuses a request that waits for 100 with its final answer at once', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const routes = [{ name: 'main', upstream: 'main', keyspace: KSID }]
      const gateway = await bench.gateway({ upstream: upstream.url, routes })
      const client = bench.client(gateway)
      client.send('POST / HTTP/1.1', 'Host: a', 'Content-Length: 5', 'Expect: 100-continue')
      const answer = await client.readAnswer()
      expect(answer.status).toBe(401)
      expect(answer.headers.get('connection')).toBe('close')
      await client.closed()
      expect(upstream.begun).toBe(0)
    })

    it('relays 103 before the answer, and drops 100 and 103 for HTTP/1.0', async () => {
      const upstream = await bench.upstream(
        startHttpUpstream((_request, answer) => {
          answer.writeEarlyHints({ link: '</a.css>; rel=preload' })
          setTimeout(() => answer.end('ok'), 20)
        }),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)
      client.send('GET / HTTP/1.1', 'Host: a')
      const hints = await client.readAnswer()
      expect([hints.status, hints.headers.get('link')]).toEqual([103, '</a.css>; rel=preload'])
      expect((await client.readAnswer()).body.toString()).toBe('ok')

      const old = bench.client(gateway)
      old.send('GET / HTTP/1.0')
      expect((await old.readAnswer()).status).toBe(200)
    })

    it('relays an answer that comes before the body is complete, and never parses the rest as a request', async () => {
      const upstream = await bench.upstream(
        startRawUpstream((connection) =>
          connection.onFirstHead(() => connection.write('HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno')),
        ),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      for (const field of ['Content-Length: 100000', 'Transfer-Encoding: chunked']) {
        const client = bench.client(gateway)
        client.send('POST / HTTP/1.1', 'Host: a', field)
        client.write('3\r\nabc\r\n')
        const answer = await client.readAnswer()
        expect([answer.status, answer.body.toString()]).toEqual([403, 'no'])
        client.send('GET /smuggled HTTP/1.1', 'Host: a')
        await client.closed()
        expect(client.received).not.toContain('HTTP/1.1 ')
      }
      expect(gateway.records.map((record) => record.path)).toEqual(['/', '/'])
    })

    it('survives 2,000 clients that reset in the middle of an answer, and keeps no socket', async () => {
      const upstream = await bench.upstream(
        startStreamingUpstream((_request, answer) => {
          answer.write(Buffer.alloc(64 * 1024))
        }),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      for (let round = 0; round < 20; round++) {
        const clients = Array.from({ length: 100 }, () => bench.client(gateway))
        await Promise.all(
          clients.map(async (client) => {
            client.send('GET / HTTP/1.1', 'Host: a')
            await client.readHead()
            client.reset()
          }),
        )
      }
      await eventually(() => upstream.openSockets.size === 0, 'all upstream sockets closed')
      await eventually(() => gateway.records.length === 2000, 'all recorded')
      expect(gateway.records.every((record) => record.aborted)).toBe(true)
    })
  })
}

const lastValues = new WeakMap<object, { value: number; since: number }>()
const steadyKey = {}

/** Whether a number has not changed for a third of a second. */
function isSteady(read: () => number): boolean {
  const now = Date.now()
  const value = read()
  const last = lastValues.get(steadyKey)
  if (last === undefined || last.value !== value) {
    lastValues.set(steadyKey, { value, since: now })
    return false
  }
  return now - last.since > 300
}
