import { describe, expect, test } from 'vitest'
import type { CheckKey } from '../../src/app/check-key.ts'
import { startCached } from '../support/cached-gateway.ts'
import { useCleanup } from '../support/cleanup.ts'
import { hashToken, type StartGateway } from '../support/proxy-gateway.ts'

const CALLERS = [
  { token: 'alice', kid: 'k_alice', ksid: 'ks_a' },
  { token: 'bob', kid: 'k_bob', ksid: 'ks_a' },
  { token: 'carol', kid: 'k_carol', ksid: 'ks_c' },
]

/** Each key has five tokens and no refill. */
function createCheck(): CheckKey & { readonly taken: Map<string, number> } {
  const taken = new Map<string, number>()
  const check: CheckKey = (tokenHash, accepts, cost) => {
    const caller = CALLERS.find(({ token }) => hashToken(token) === tokenHash)
    if (caller === undefined || !accepts.has(caller.ksid)) return { kind: 'unknown' }
    const limit = { capacity: 5, rate: 0, intervalMs: 0 }
    const used = taken.get(caller.kid) ?? 0
    const base = { ...caller, limit, lastRefilledMs: 0, nowMs: 0 }
    if (used + cost > 5) return { kind: 'limited', ...base, remaining: 5 - used, retryAfterMs: undefined }
    taken.set(caller.kid, used + cost)
    return { kind: 'allowed', ...base, remaining: 5 - used - cost }
  }
  return Object.assign(check, { taken })
}

/** Who sees whose answers, and what it costs. */
export function describeCacheIsolation(name: string, startGateway: StartGateway): void {
  describe(`response cache, isolation: ${name}`, () => {
    const cleanup = useCleanup()
    const start = async (cache: object, cacheControl: string, route: object = {}, gateway: object = {}) => {
      const checkKey = createCheck()
      const cached = await startCached(
        cleanup,
        startGateway,
        (request, answer, number) => {
          const caller = request.headers['x-dripgate-key-id'] ?? 'nobody'
          answer.writeHead(200, {
            'Cache-Control': cacheControl,
            'X-Fields': JSON.stringify(request.headers),
          })
          answer.end(`${caller} ${number}`)
        },
        { keyspaces: ['ks_a', 'ks_c'], cache, token: { query: 'token', cookie: 'session' }, ...route },
        { checkKey, gateway },
      )
      return { ...cached, taken: checkKey.taken }
    }
    const places: [string, (token: string) => [string, Record<string, string>]][] = [
      ['Authorization', (token) => ['/a', { authorization: `Bearer ${token}` }]],
      ['X-API-KEY', (token) => ['/a', { 'x-api-key': token }]],
      ['a query parameter', (token) => [`/a?token=${token}`, {}]],
      ['a cookie', (token) => ['/a', { cookie: `session=${token}` }]],
    ]

    test.each(places)('by default nobody sees the answer of another: token in %s', async (_, place) => {
      const cached = await start({}, 'public, max-age=60')
      const as = async (token: string) => {
        const [target, headers] = place(token)
        return (await cached.ask(target, { headers })).body
      }
      expect(await as('alice')).toBe('k_alice 1')
      expect(await as('bob')).toBe('k_bob 2')
      expect(await as('alice')).toBe('k_alice 1')
      expect(await as('bob')).toBe('k_bob 2')
    })

    test.each(places)(
      'what is not public is not stored for who has credentials: token in %s',
      async (_, place) => {
        const cached = await start({ vary_by: 'shared' }, 'max-age=60')
        const [target, headers] = place('alice')
        await cached.ask(target, { headers })
        expect((await cached.ask(target, { headers })).body).toBe('k_alice 2')
      },
    )

    test.each(['public, max-age=60', 's-maxage=60', 'max-age=60, must-revalidate'])(
      'shared: %s is for all callers, wherever their token is',
      async (cacheControl) => {
        const cached = await start({ vary_by: 'shared' }, cacheControl)
        const bodies: string[] = []
        for (const [index, [, place]] of places.entries()) {
          const [target, headers] = place(CALLERS[index % 3]?.token ?? '')
          bodies.push((await cached.ask(target, { headers })).body)
        }
        expect(bodies).toEqual(Array(4).fill('k_alice 1'))
      },
    )

    test('keyspace: its keys share answers, others do not', async () => {
      const cached = await start({ vary_by: 'keyspace' }, 'public, max-age=60')
      const as = async (token: string) => (await cached.ask('/a', { headers: { 'x-api-key': token } })).body
      expect([await as('alice'), await as('bob'), await as('carol')]).toEqual([
        'k_alice 1',
        'k_alice 1',
        'k_carol 2',
      ])
    })

    test('an answer that varies by who calls is told apart even where callers share', async () => {
      const checkKey = createCheck()
      const cached = await startCached(
        cleanup,
        startGateway,
        (request, answer) => {
          answer.writeHead(200, {
            'Cache-Control': 'public, max-age=60',
            Vary: String(request.headers['x-by']),
          })
          answer.end(String(request.headers['x-dripgate-key-id']))
        },
        { keyspaces: ['ks_a'], cache: { vary_by: 'shared' }, token: { cookie: 'session' } },
        { checkKey },
      )
      for (const by of ['X-Dripgate-Key-Id', 'Authorization', 'X-API-Key']) {
        for (const name of ['alice', 'bob']) {
          const headers = {
            'x-by': by,
            [by === 'Authorization' ? 'authorization' : 'x-api-key']:
              by === 'Authorization' ? `Bearer ${name}` : name,
          }
          expect((await cached.ask(`/${by}`, { headers })).body).toBe(`k_${name}`)
        }
      }
    })

    test('a refused caller gets nothing from the cache', async () => {
      const cached = await start({ vary_by: 'shared' }, 'public, max-age=60')
      await cached.ask('/a', { headers: { 'x-api-key': 'alice' } })
      expect((await cached.ask('/a')).status).toBe(401)
      expect((await cached.ask('/a', { headers: { 'x-api-key': 'nobody' } })).status).toBe(401)
      for (let at = 0; at < 4; at++) {
        expect((await cached.ask('/a', { headers: { 'x-api-key': 'alice' } })).status).toBe(200)
      }
      expect((await cached.ask('/a', { headers: { 'x-api-key': 'alice' } })).status).toBe(429)
      expect(cached.upstream.begun).toBe(1)
    })

    test('cost of the cache: hits are free, and misses are paid for', async () => {
      const cached = await start({ cost: 0 }, 'public, max-age=60', { cost: 2 })
      const as = (target: string) => cached.ask(target, { headers: { 'x-api-key': 'alice' } })
      await as('/a')
      for (let at = 0; at < 10; at++) expect((await as('/a')).status).toBe(200)
      expect(cached.taken.get('k_alice')).toBe(2)
      expect((await as('/b')).headers['ratelimit']).toBe('"burst";r=1')
      expect((await as('/c')).status).toBe(429)
      expect((await as('/a')).status).toBe(200)
      expect(cached.taken.get('k_alice')).toBe(4)
    })

    test('cost of the cache: a hit may cost less', async () => {
      const cached = await start({ cost: 1 }, 'public, max-age=60', { cost: 3 })
      const as = (target: string) => cached.ask(target, { headers: { 'x-api-key': 'alice' } })
      await as('/a')
      expect((await as('/b')).status).toBe(429)
      expect(cached.taken.get('k_alice')).toBe(3)
      await as('/a')
      expect(cached.taken.get('k_alice')).toBe(4)
    })

    test.each([
      ['the order of the query', '/a?x=1&y=2', '/a?y=2&x=1'],
      ['an empty query', '/a', '/a?'],
      ['a value in capitals', '/a?x=a', '/a?x=A'],
      ['percent-encoding', '/a~b', '/a%7Eb'],
      ['a path in capitals', '/a', '/A'],
      ['a slash at the end', '/a', '/a/'],
    ])('targets are told apart byte for byte: %s', async (_, one, other) => {
      const cached = await start({ vary_by: 'shared' }, 'public, max-age=60')
      const headers = { 'x-api-key': 'alice' }
      expect((await cached.ask(one, { headers })).body).toBe('k_alice 1')
      expect((await cached.ask(other, { headers })).body).toBe('k_alice 2')
      expect((await cached.ask(one, { headers })).body).toBe('k_alice 1')
    })

    test.each<[string, Record<string, string>]>([
      ['X-HTTP-Method-Override', { 'x-http-method-override': 'POST' }],
      ['an alias of it', { X_HTTP_Method_Override: 'POST' }],
      ['X-Original-URL', { 'x-original-url': '/admin' }],
      ['X-Rewrite-URL', { 'x-rewrite-url': '/admin' }],
      ['X-Host', { 'x-host': 'evil.example' }],
    ])('a request that may be another one to the upstream is never stored: %s', async (_, fields) => {
      const cached = await start({ vary_by: 'shared' }, 'public, max-age=60')
      await cached.ask('/a', { headers: { 'x-api-key': 'alice', ...fields } })
      expect((await cached.ask('/a', { headers: { 'x-api-key': 'bob' } })).body).toBe('k_bob 2')
    })

    test('a client cannot make a page with its own X-Forwarded-Host for others', async () => {
      const cached = await start({ vary_by: 'shared' }, 'public, max-age=60')
      const fields = {
        'x-forwarded-host': 'evil.example',
        'x-forwarded-proto': 'https',
        'x-forwarded-prefix': '/evil',
      }
      const { headers } = await cached.ask('/a', {
        headers: { 'x-api-key': 'alice', host: 'api.example', ...fields },
      })
      const seen = JSON.parse(String(headers['x-fields']))
      expect([seen['x-forwarded-host'], seen['x-forwarded-prefix']]).toEqual(['api.example', undefined])
    })

    test('behind a trusted proxy, what it says of host, scheme and prefix tells answers apart', async () => {
      const cached = await start(
        { vary_by: 'shared' },
        'public, max-age=60',
        {},
        { trusted_proxies: ['127.0.0.0/8'] },
      )
      const from = async (fields: Record<string, string>) =>
        (await cached.ask('/a', { headers: { 'x-api-key': 'alice', ...fields } })).body
      expect(await from({ 'x-forwarded-host': 'one.example' })).toBe('k_alice 1')
      expect(await from({ 'x-forwarded-host': 'two.example' })).toBe('k_alice 2')
      expect(await from({ 'x-forwarded-host': 'one.example', 'x-forwarded-prefix': '/p' })).toBe('k_alice 3')
      expect(await from({ 'x-forwarded-host': 'one.example', 'x-forwarded-for': '10.1.1.1' })).toBe(
        'k_alice 1',
      )
    })

    test('behind a trusted proxy, the host and scheme in Forwarded tell answers apart, its client does not', async () => {
      const cached = await start(
        { vary_by: 'shared' },
        'public, max-age=60',
        {},
        { trusted_proxies: ['127.0.0.0/8'] },
      )
      const from = async (forwarded: string) =>
        (await cached.ask('/a', { headers: { 'x-api-key': 'alice', forwarded } })).body
      expect(await from('for=10.1.1.1;host=evil.example')).toBe('k_alice 1')
      expect(await from('for=10.1.1.1')).toBe('k_alice 2')
      expect(await from('for="host=";Proto=https;by="b"')).toBe('k_alice 3')
      expect(await from('for=10.1.1.2;host=evil.example')).toBe('k_alice 1')
      expect(await from('for=10.1.1.3')).toBe('k_alice 2')
    })

    test('a GET with a body is forwarded and not stored', async () => {
      const cached = await start({ vary_by: 'shared' }, 'public, max-age=60')
      const headers = { 'x-api-key': 'alice', 'content-length': '4' }
      await cached.ask('/a', { headers, body: 'evil' })
      expect((await cached.ask('/a', { headers: { 'x-api-key': 'bob' } })).body).toBe('k_bob 2')
      expect((await cached.ask('/a', { headers, body: 'evil' })).body).toBe('k_alice 3')
    })

    test('hosts are told apart', async () => {
      const cached = await start({ vary_by: 'shared' }, 'public, max-age=60')
      const at = async (host: string) =>
        (await cached.ask('/a', { headers: { 'x-api-key': 'alice', host } })).body
      expect([await at('one.example'), await at('two.example'), await at('one.example')]).toEqual([
        'k_alice 1',
        'k_alice 2',
        'k_alice 1',
      ])
    })
  })
}
