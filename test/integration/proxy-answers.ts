import { describe, expect, it } from 'vitest'
import type { Allowed, Limited } from '../../src/domain/decision.ts'
import { StoreUnavailable } from '../../src/ports/stores.ts'
import { useProxy } from '../support/proxy-bench.ts'
import {
  checkOneToken,
  eventually,
  hashToken,
  KSID,
  type TestGateway,
  TOKEN,
} from '../support/proxy-gateway.ts'
import { type RawAnswer, requestOnce } from '../support/raw-client.ts'
import { startHttpUpstream } from '../support/upstreams.ts'
import type { ProxyUnderTest } from './proxy-behaviour.ts'

const LIMITED: Limited = {
  kind: 'limited',
  kid: 'k_1',
  ksid: KSID,
  limit: { capacity: 10, rate: 1, intervalMs: 1000 },
  remaining: 0,
  lastRefilledMs: 0,
  nowMs: 0,
  retryAfterMs: 1200,
}

export function describeAnswers(name: string, proxy: ProxyUnderTest): void {
  describe(`${name}: answers of the gateway`, () => {
    const bench = useProxy(proxy)
    const keyed = { name: 'main', upstream: 'main', keyspace: KSID }

    async function lastRecord(gateway: TestGateway) {
      await eventually(() => gateway.records.length > 0, 'a record')
      return gateway.records.at(-1)
    }

    function codeOf(answer: RawAnswer): string {
      return JSON.parse(answer.body.toString()).error.code
    }

    it('says 404 where no route matches and 405 where only the method does not', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const routes = [
        { name: 'main', upstream: 'main', match: { path: '/orders', methods: ['GET', 'POST'] } },
      ]
      const gateway = await bench.gateway({ upstream: upstream.url, routes })

      const lost = await requestOnce(gateway.port, ['GET /ordersx HTTP/1.1', 'Host: a', 'X-Request-Id: r1'])
      expect(lost.status).toBe(404)
      expect(lost.headers.get('content-type')).toBe('application/json')
      expect(JSON.parse(lost.body.toString())).toEqual({
        error: { code: 'not_found', message: expect.any(String), request_id: 'r1' },
      })
      expect(await lastRecord(gateway)).toMatchObject({
        routeId: -1,
        routeName: 'none',
        decision: 'rejected',
        status: 404,
      })

      const refused = await requestOnce(gateway.port, ['DELETE /orders HTTP/1.1', 'Host: a'])
      expect(refused.status).toBe(405)
      expect(codeOf(refused)).toBe('method_not_allowed')
      expect(refused.headers.get('allow')).toContain('POST')
      expect(upstream.begun).toBe(0)
    })

    it.each([
      ['missing_token', 'Bearer', []],
      ['invalid_token', 'Bearer error="invalid_token"', ['X-API-KEY: wrong']],
      ['expired_token', 'Bearer error="invalid_token"', ['X-API-KEY: old']],
    ])('says 401 %s', async (code, challenge, fields) => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({
        upstream: upstream.url,
        routes: [keyed],
        checkKey: (hash) =>
          hash === hashToken('old') ? { kind: 'expired', kid: 'k_9', ksid: KSID } : { kind: 'unknown' },
      })
      const answer = await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a', ...fields])
      expect(answer.status).toBe(401)
      expect(codeOf(answer)).toBe(code)
      expect(answer.headers.get('www-authenticate')).toBe(challenge)
      expect((await lastRecord(gateway))?.decision).toBe(code)
      expect(upstream.begun).toBe(0)
    })

    it('says 429 with Retry-After and the RateLimit fields, whether decided at once or later', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      for (const decision of [LIMITED, Promise.resolve(LIMITED)]) {
        const gateway = await bench.gateway({
          upstream: upstream.url,
          routes: [keyed],
          checkKey: () => decision,
        })
        const answer = await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a', 'X-API-KEY: t'])
        expect(answer.status).toBe(429)
        expect(codeOf(answer)).toBe('rate_limited')
        expect(answer.headers.get('retry-after')).toBe('2')
        expect(answer.headers.get('ratelimit')).toContain('r=0')
        expect(answer.headers.get('ratelimit-policy')).toContain('q=10')
        expect(await lastRecord(gateway)).toMatchObject({ decision: 'limited', kid: 'k_1', status: 429 })
      }
      expect(upstream.begun).toBe(0)
    })

    it('puts the RateLimit fields on the answers of the upstream', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const allowed: Allowed = { ...LIMITED, kind: 'allowed', remaining: 7 }
      const gateway = await bench.gateway({
        upstream: upstream.url,
        routes: [keyed],
        checkKey: () => allowed,
      })
      const answer = await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a', 'X-API-KEY: t'])
      expect(answer.status).toBe(200)
      expect(answer.headers.get('ratelimit')).toContain('r=7')
    })

    it('asks about exactly the token that was sent, once, with the cost of the route', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const asked: unknown[] = []
      const gateway = await bench.gateway({
        upstream: upstream.url,
        routes: [{ ...keyed, cost: 5 }],
        checkKey: (hash, accepts, cost) => {
          asked.push([hash, [...accepts], cost])
          return checkOneToken(hash, accepts, cost)
        },
      })
      await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a', `Authorization: Bearer ${TOKEN}`])
      expect(asked).toEqual([[hashToken(TOKEN), [KSID], 5]])
    })

    it.each([
      ['deny', 503, undefined],
      ['allow', 200, 'allow'],
      ['local', 503, undefined],
    ])('does what on_store_error: %s says', async (policy, status, degraded) => {
      const upstream = await bench.upstream(startHttpUpstream())
      for (const checkKey of [throwUnavailable, () => Promise.reject(new StoreUnavailable('late'))]) {
        const gateway = await bench.gateway({
          upstream: upstream.url,
          routes: [{ ...keyed, on_store_error: policy }],
          checkKey,
        })
        const answer = await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a', 'X-API-KEY: t'])
        expect(answer.status).toBe(status)
        expect(answer.headers.get('x-dripgate-degraded')).toBe(degraded)
        if (status === 503) expect(codeOf(answer)).toBe('store_unavailable')
        expect((await lastRecord(gateway))?.decision).toBe('store_error')
      }
    })

    it('limits by the buckets of this node where on_store_error: local can', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      let admitted = 0
      const gateway = await bench.gateway({
        upstream: upstream.url,
        routes: [{ ...keyed, on_store_error: 'local' }],
        checkKey: throwUnavailable,
        checkLocally: () => (admitted++ < 1 ? { ...LIMITED, kind: 'allowed' } : LIMITED),
      })
      const first = await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a', 'X-API-KEY: t'])
      const second = await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a', 'X-API-KEY: t'])
      expect([first.status, second.status]).toEqual([200, 429])
      expect(first.headers.get('x-dripgate-degraded')).toBe('local')
      expect(second.headers.get('x-dripgate-degraded')).toBe('local')
    })

    it('refuses CONNECT and TRACE with 405 and forwards neither', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({ upstream: upstream.url })
      for (const line of ['CONNECT a:443 HTTP/1.1', 'TRACE / HTTP/1.1']) {
        const answer = await requestOnce(gateway.port, [line, 'Host: a:443'])
        expect(answer.status).toBe(405)
        expect(answer.headers.get('allow')).toContain('GET')
      }
      await eventually(() => gateway.records.length === 2, 'two records')
      expect(upstream.connections).toBe(0)
    })

    it('gives problem+json to those who ask, and HEAD no body', async () => {
      const gateway = await bench.gateway({ upstream: 'http://127.0.0.1:1', routes: [] })
      const problem = await requestOnce(gateway.port, [
        'GET / HTTP/1.1',
        'Host: a',
        'Accept: application/problem+json',
      ])
      expect(problem.headers.get('content-type')).toBe('application/problem+json')
      const client = bench.client(gateway)
      client.send('HEAD / HTTP/1.1', 'Host: a')
      expect((await client.readAnswer('HEAD')).status).toBe(404)
      client.send('HEAD / HTTP/1.1', 'Host: a')
      expect((await client.readAnswer('HEAD')).status).toBe(404)
    })

    it('keeps the connections of an upstream that a reload leaves as it was', async () => {
      const kept = await bench.upstream(startHttpUpstream())
      const left = await bench.upstream(startHttpUpstream())
      const upstreams = { kept: { targets: [kept.url] }, left: { targets: [left.url] } }
      const routes = [
        { match: { path: '/kept' }, upstream: 'kept' },
        { match: { path: '/left' }, upstream: 'left' },
      ]
      const gateway = await bench.gateway({ upstreams, routes })
      const get = async (path: string) =>
        (await requestOnce(gateway.port, [`GET ${path} HTTP/1.1`, 'Host: a'])).status
      expect([await get('/kept'), await get('/left')]).toEqual([200, 200])
      for (const version of [1, 2]) {
        const changed = { targets: [left.url], max_connections: version }
        const added = { match: { path: `/v${version}` }, upstream: 'kept' }
        gateway.reload({ upstreams: { left: changed, kept: upstreams.kept }, routes: [added, ...routes] })
        expect([await get('/kept'), await get(`/v${version}`), await get('/left')]).toEqual([200, 200, 200])
      }
      expect([kept.connections, left.connections]).toEqual([1, 3])
      gateway.reload({ upstreams: { left: upstreams.left }, routes: routes.slice(1) })
      await eventually(() => kept.openSockets.size === 0, 'the connections of a removed upstream closed')
    })

    it('follows the new plan after a reload, while running exchanges keep theirs', async () => {
      const slow = await bench.upstream(
        startHttpUpstream((_request, answer) => setTimeout(() => answer.end('old'), 100)),
      )
      const fresh = await bench.upstream(startHttpUpstream((_request, answer) => answer.end('new')))
      const gateway = await bench.gateway({ upstream: slow.url })
      const before = requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a'])
      await eventually(() => slow.begun === 1, 'the first request upstream')
      gateway.reload({ upstream: fresh.url })
      const after = await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a'])
      expect(after.body.toString()).toBe('new')
      expect((await before).body.toString()).toBe('old')
      await eventually(() => slow.openSockets.size === 0, 'the old connections closed')
    })
  })
}

function throwUnavailable(): never {
  throw new StoreUnavailable('at once')
}
