import { describe, expect, it } from 'vitest'
import { useProxy } from '../support/proxy-bench.ts'
import { eventually, type TestGateway } from '../support/proxy-gateway.ts'
import { connectRaw } from '../support/raw-client.ts'
import { startHttpUpstream, startStreamingUpstream } from '../support/upstreams.ts'
import type { ProxyUnderTest } from './proxy-behaviour.ts'

export function describeDrain(name: string, proxy: ProxyUnderTest): void {
  describe(`${name}: drain`, () => {
    const bench = useProxy(proxy)

    async function isRefused(gateway: TestGateway): Promise<boolean> {
      const client = connectRaw(gateway.port)
      await new Promise((resolve) => client.socket.once('connect', resolve).once('close', resolve))
      const isRefused = client.error !== undefined
      client.destroy()
      return isRefused
    }

    it('goes on until it is closed, but ends each connection with its next answer', async () => {
      let finish = () => {}
      const upstream = await bench.upstream(
        startStreamingUpstream((request, answer) => {
          if (request.url !== '/slow') return void answer.end('ok')
          answer.write('some')
          finish = () => answer.end('more')
        }),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const idle = bench.client(gateway)
      idle.send('GET / HTTP/1.1', 'Host: a')
      await idle.readAnswer()
      const busy = bench.client(gateway)
      busy.send('GET /slow HTTP/1.1', 'Host: a')
      await busy.sees('some')
      gateway.drain()

      // Nobody was told that this connection would end, so the next request on it is good.
      finish()
      expect((await busy.readAnswer()).headers.get('connection')).not.toBe('close')
      const fresh = bench.client(gateway)
      for (const client of [idle, busy, fresh]) {
        client.send('GET / HTTP/1.1', 'Host: a')
        const answer = await client.readAnswer()
        expect([answer.status, answer.headers.get('connection')]).toEqual([200, 'close'])
        await client.closed()
        expect(client.error).toBeUndefined()
      }
      // Answers of the gateway itself too.
      const refused = bench.client(gateway)
      refused.send('GET /a/../b HTTP/1.1', 'Host: a')
      expect((await refused.readAnswer()).headers.get('connection')).toBe('close')
      await refused.closed()
    })

    it('finishes what runs, says close, ends idle connections and refuses new ones', async () => {
      const upstream = await bench.upstream(
        startHttpUpstream((_request, answer) => setTimeout(() => answer.end('done'), 300)),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const idle = bench.client(gateway)
      idle.send('GET / HTTP/1.1', 'Host: a')
      await idle.readAnswer()
      const busy = bench.client(gateway)
      busy.send('GET / HTTP/1.1', 'Host: a')
      await eventually(() => upstream.begun === 2, 'the second request upstream')

      const closed = gateway.close(5000)
      await idle.closed()
      expect(await isRefused(gateway)).toBe(true)
      const answer = await busy.readAnswer()
      expect(answer.body.toString()).toBe('done')
      expect(answer.headers.get('connection')).toBe('close')
      await busy.closed()
      const startedAt = Date.now()
      await closed
      expect(Date.now() - startedAt).toBeLessThan(1000)
      expect(gateway.records).toHaveLength(2)
    })

    it('closes a connection whose answer had begun before, as soon as it is complete', async () => {
      let finish = () => {}
      const upstream = await bench.upstream(
        startStreamingUpstream((_request, answer) => {
          answer.write('some')
          finish = () => answer.end('more')
        }),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)
      client.send('GET / HTTP/1.1', 'Host: a')
      await client.sees('some')
      const closed = gateway.close(5000)
      finish()
      await client.sees('more')
      await closed
      expect(gateway.records[0]).toMatchObject({ status: 200, aborted: false })
    })

    it('cuts off what is left when the grace is over', async () => {
      const upstream = await bench.upstream(
        startStreamingUpstream((_request, answer) => answer.write('some')),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)
      client.send('GET / HTTP/1.1', 'Host: a')
      await client.sees('some')
      const silent = bench.client(gateway)
      silent.write('GET / HT')
      const startedAt = Date.now()
      await gateway.close(300)
      expect(Date.now() - startedAt).toBeGreaterThanOrEqual(290)
      await client.closed()
      await silent.closed()
      expect(gateway.records).toHaveLength(1)
      expect(gateway.records[0]?.aborted).toBe(true)
    })

    it('loses no request of a client that keeps asking while it drains', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({ upstream: upstream.url })
      let isClosing = false
      const outcomes = await Promise.all(
        Array.from({ length: 20 }, async () => {
          const client = bench.client(gateway)
          for (;;) {
            client.send('GET / HTTP/1.1', 'Host: a')
            const answer = await client.readAnswer().catch(() => undefined)
            // Closing an idle connection may cross a request; the client may repeat that one.
            if (answer === undefined) return isClosing
            if (answer.status !== 200) return false
            if (answer.headers.get('connection') === 'close') return true
            if (gateway.records.length > 200 && !isClosing) {
              isClosing = true
              void gateway.close(5000)
            }
          }
        }),
      )
      expect(outcomes.every(Boolean)).toBe(true)
    })
  })
}
