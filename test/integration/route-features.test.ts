import { describe, expect, it } from 'vitest'
import type { Limited } from '../../src/domain/decision.ts'
import { useProxy } from '../support/proxy-bench.ts'
import {
  checkOneToken,
  ENGINE_PAIRS,
  eventually,
  KSID,
  startGatewayWith,
  TOKEN,
} from '../support/proxy-gateway.ts'
import { type RawAnswer, requestOnce } from '../support/raw-client.ts'
import { startHttpUpstream } from '../support/upstreams.ts'
import type { ProxyUnderTest } from './proxy-behaviour.ts'

const APP = 'https://app.example.com'
const LIMITED: Limited = {
  kind: 'limited',
  kid: 'k_1',
  ksid: KSID,
  limit: { capacity: 10, rate: 1, intervalMs: 1000 },
  remaining: 0,
  lastRefilledMs: 0,
  nowMs: 0,
  retryAfterMs: 1000,
}

function corsFieldsOf(answer: RawAnswer): Record<string, string> {
  const fields = [...answer.headers].filter(([name]) => name.startsWith('access-control-') || name === 'vary')
  return Object.fromEntries(fields)
}

const preflight = (path: string, origin: string, method: string, ...more: string[]) => [
  `OPTIONS ${path} HTTP/1.1`,
  'Host: a',
  `Origin: ${origin}`,
  `Access-Control-Request-Method: ${method}`,
  ...more,
]

function describeRouteFeatures(name: string, proxy: ProxyUnderTest): void {
  describe(`${name}: CORS`, () => {
    const bench = useProxy(proxy)

    it('answers a preflight itself: no token is asked for, none is taken, nothing goes upstream', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      let checks = 0
      const gateway = await bench.gateway({
        upstream: upstream.url,
        checkKey: (...call) => {
          checks++
          return checkOneToken(...call)
        },
        routes: [{ name: 'main', upstream: 'main', keyspace: KSID, cors: { origins: [APP], max_age: '1h' } }],
      })
      const answer = await requestOnce(
        gateway.port,
        preflight('/x', APP, 'POST', 'Access-Control-Request-Headers: authorization, x-y'),
      )
      expect(answer.status).toBe(204)
      expect(corsFieldsOf(answer)).toEqual({
        'access-control-allow-origin': APP,
        'access-control-allow-methods': 'GET, HEAD, POST, PUT, PATCH, DELETE',
        'access-control-allow-headers': 'authorization, x-y',
        'access-control-expose-headers': 'ratelimit, ratelimit-policy, retry-after, x-request-id',
        'access-control-max-age': '3600',
        vary: 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers',
      })
      expect(answer.headers.get('x-request-id')).toBeDefined()
      await eventually(() => gateway.records.length === 1, 'one record')
      expect(gateway.records[0]).toMatchObject({ routeName: 'main', decision: 'open', status: 204 })
      expect([checks, upstream.connections]).toEqual([0, 0])
    })

    it('lets a connection go on behind a preflight, also one with a body', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({
        upstream: upstream.url,
        routes: [{ name: 'main', upstream: 'main', cors: { origins: [APP] } }],
      })
      const client = bench.client(gateway)
      client.send(...preflight('/', APP, 'GET', 'Content-Length: 4'))
      client.write('body')
      expect((await client.readAnswer('OPTIONS')).status).toBe(204)
      client.send('GET / HTTP/1.1', 'Host: a')
      expect((await client.readAnswer()).status).toBe(200)
      expect(upstream.seen.map(({ method }) => method)).toEqual(['GET'])
    })

    it('answers by the route of the request to come, by its method and the fields it will have', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({
        upstream: upstream.url,
        routes: [
          {
            name: 'post',
            match: { methods: ['POST'], headers: { 'x-version': '2' } },
            upstream: 'main',
            keyspace: KSID,
            cors: { origins: [APP], headers: ['x-version'] },
          },
          { name: 'rest', upstream: 'main' },
        ],
      })
      const asked = await requestOnce(
        gateway.port,
        preflight('/', APP, 'POST', 'Access-Control-Request-Headers: content-type, X-Version'),
      )
      expect(asked.status).toBe(204)
      expect(asked.headers.get('access-control-allow-methods')).toBe('POST')
      expect(asked.headers.get('access-control-allow-headers')).toBe('x-version')
      // Without CORS, an OPTIONS is the upstream's business, whatever it looks like.
      const other = await requestOnce(gateway.port, preflight('/', APP, 'POST'))
      expect([other.status, upstream.seen[0]?.method]).toEqual([200, 'OPTIONS'])
    })

    it('treats an OPTIONS that is no preflight like any request', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({
        upstream: upstream.url,
        routes: [{ name: 'main', upstream: 'main', keyspace: KSID, cors: { origins: [APP] } }],
      })
      const plain = await requestOnce(gateway.port, ['OPTIONS / HTTP/1.1', 'Host: a', `Origin: ${APP}`])
      expect(plain.status).toBe(401)
      const withToken = [`Authorization: Bearer ${TOKEN}`, 'Access-Control-Request-Method: GET']
      const noOrigin = await requestOnce(gateway.port, ['OPTIONS / HTTP/1.1', 'Host: a', ...withToken])
      expect([noOrigin.status, upstream.seen.length]).toEqual([200, 1])
    })

    it('shows pages its own errors, and the fields of 429 with them', async () => {
      const gateway = await bench.gateway({
        upstream: 'http://127.0.0.1:1',
        checkKey: (hash, ...rest) => {
          const decision = checkOneToken(hash, ...rest)
          return 'kind' in decision && decision.kind === 'allowed' ? LIMITED : decision
        },
        routes: [
          {
            name: 'keyed',
            match: { path: '/keyed' },
            upstream: 'main',
            keyspace: KSID,
            cors: { origins: [APP] },
          },
          { name: 'open', upstream: 'main', cors: { origins: [APP], credentials: true } },
        ],
      })
      const get = (path: string, ...more: string[]) =>
        requestOnce(gateway.port, [`GET ${path} HTTP/1.1`, 'Host: a', `Origin: ${APP}`, ...more])
      const missing = await get('/keyed')
      const limited = await get('/keyed', `Authorization: Bearer ${TOKEN}`)
      const broken = await get('/open')
      expect([missing.status, limited.status, broken.status]).toEqual([401, 429, 502])
      for (const answer of [missing, limited, broken]) {
        expect(answer.headers.get('access-control-allow-origin')).toBe(APP)
        expect(answer.headers.get('vary')).toBe('Origin')
      }
      expect(limited.headers.get('retry-after')).toBe('1')
      expect(limited.headers.get('access-control-expose-headers')).toContain('retry-after')
      expect(broken.headers.get('access-control-allow-credentials')).toBe('true')
    })

    it('replaces what the upstream says, and says nothing to foreign origins', async () => {
      const upstream = await bench.upstream(
        startHttpUpstream((_request, answer) => {
          answer.setHeader('Access-Control-Allow-Origin', 'https://evil.example')
          answer.setHeader('Access-Control-Allow-Credentials', 'true')
          answer.setHeader('Access-Control-Allow-Private-Network', 'true')
          answer.setHeader('Vary', 'Accept')
          answer.end('ok')
        }),
      )
      const gateway = await bench.gateway({
        upstream: upstream.url,
        routes: [
          {
            name: 'listed',
            match: { path: '/listed' },
            upstream: 'main',
            cors: { origins: ['https://*.example.com', 'null'], expose: [] },
          },
          {
            name: 'any',
            match: { path: '/any' },
            upstream: 'main',
            cors: { origins: ['*'], expose: ['x-a'] },
          },
          { name: 'theirs', upstream: 'main' },
        ],
      })
      const ask = async (path: string, ...origins: string[]) =>
        corsFieldsOf(
          await requestOnce(gateway.port, [
            `GET ${path} HTTP/1.1`,
            'Host: a',
            ...origins.map((origin) => `Origin: ${origin}`),
          ]),
        )
      const silence = { vary: 'Accept, Origin' }
      for (const origin of ['https://a.example.com', 'https://a.b.example.com', 'null']) {
        expect(await ask('/listed', origin)).toEqual({ ...silence, 'access-control-allow-origin': origin })
      }
      for (const origin of [
        'https://example.com',
        'https://evil.example',
        'https://evilexample.com',
        'http://a.example.com',
        'https://a.example.com:8443',
        'https://evil.com/.example.com',
        'https://a.example.com.evil.com',
        'https://.example.com@evil.com',
      ]) {
        expect(await ask('/listed', origin), origin).toEqual(silence)
      }
      expect(await ask('/listed')).toEqual(silence)
      expect(await ask('/listed', 'https://a.example.com', 'https://b.example.com')).toEqual(silence)
      const any = {
        'access-control-allow-origin': '*',
        'access-control-expose-headers': 'x-a',
        vary: 'Accept',
      }
      expect(await ask('/any', 'https://anybody.example')).toEqual(any)
      expect(await ask('/any')).toEqual(any)
      expect(await ask('/theirs', APP)).toMatchObject({
        'access-control-allow-origin': 'https://evil.example',
      })
    })
  })

  describe(`${name}: addresses`, () => {
    const bench = useProxy(proxy)

    it('lets in those who are allowed and not denied, by the address behind trusted proxies', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const lists = { allow_ips: ['192.0.2.0/24', '2001:db8::/32'], deny_ips: ['::ffff:192.0.2.128/121'] }
      const gateway = await bench.gateway({
        upstream: upstream.url,
        gateway: { trusted_proxies: ['127.0.0.0/8'] },
        routes: [
          { name: 'some', match: { path: '/some' }, upstream: 'main', keyspace: KSID, ...lists },
          { name: 'others', match: { path: '/others' }, upstream: 'main', deny_ips: ['127.0.0.1'] },
        ],
      })
      const ask = async (path: string, from?: string) => {
        const more = from === undefined ? [] : [`X-Forwarded-For: ${from}`]
        const head = [`GET ${path} HTTP/1.1`, 'Host: a', `X-API-KEY: ${TOKEN}`, ...more]
        return await requestOnce(gateway.port, head)
      }
      for (const from of [
        '192.0.2.1',
        '::ffff:192.0.2.1',
        '::ffff:c000:201',
        '2001:db8::1',
        '6.6.6.6, 192.0.2.1',
      ]) {
        expect((await ask('/some', from)).status, from).toBe(200)
      }
      for (const from of [
        '192.0.2.129',
        '192.0.3.1',
        '2001:db9::1',
        '192.0.2.1, 6.6.6.6',
        'unknown',
        undefined,
      ]) {
        const answer = await ask('/some', from)
        expect(answer.status, from).toBe(403)
        expect(JSON.parse(answer.body.toString())).toMatchObject({ error: { code: 'forbidden' } })
      }
      expect((await ask('/others', '192.0.2.1')).status).toBe(200)
      expect((await ask('/others')).status).toBe(403)
      expect(upstream.seen).toHaveLength(6)
    })

    it('refuses before it identifies, and believes nobody who is not trusted', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({
        upstream: upstream.url,
        routes: [
          {
            name: 'main',
            upstream: 'main',
            keyspace: KSID,
            allow_ips: ['192.0.2.1'],
            cors: { origins: ['*'] },
          },
        ],
      })
      const forged = ['Host: a', 'X-Forwarded-For: 192.0.2.1', 'X-Real-IP: 192.0.2.1']
      expect((await requestOnce(gateway.port, ['GET / HTTP/1.1', ...forged])).status).toBe(403)
      expect((await requestOnce(gateway.port, preflight('/', APP, 'GET'))).status).toBe(403)
      await eventually(() => gateway.records.length === 2, 'two records')
      expect(gateway.records[0]).toMatchObject({ routeName: 'main', decision: 'rejected', status: 403 })
      expect(upstream.connections).toBe(0)
    })
  })

  describe(`${name}: rewriting`, () => {
    const bench = useProxy(proxy)

    it('forwards another path, keeps what follows and the query byte for byte', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({
        upstream: upstream.url,
        routes: [
          { name: 'moved', match: { path: '/orders' }, rewrite: '/api/v2', upstream: 'main' },
          { name: 'cut', match: { path: '/cut' }, strip_path: true, upstream: 'main' },
          { name: 'rooted', match: { path: '/rooted' }, rewrite: '/', upstream: 'main' },
          { name: 'below', rewrite: '/base/', upstream: 'main' },
        ],
      })
      const cases = [
        ['/orders', '/api/v2'],
        ['/orders?a=%2F&b', '/api/v2?a=%2F&b'],
        ['/orders/', '/api/v2/'],
        ['/orders/1/a%20b?', '/api/v2/1/a%20b?'],
        ['/orders//x', '/api/v2//x'],
        ['/ordersx', '/base/ordersx'],
        ['/', '/base/'],
        ['/cut', '/'],
        ['/cut/1?q', '/1?q'],
        ['/rooted', '/'],
        ['/rooted/1', '/1'],
      ]
      for (const [target] of cases) {
        expect((await requestOnce(gateway.port, [`GET ${target} HTTP/1.1`, 'Host: a'])).status).toBe(200)
      }
      expect(upstream.seen.map(({ target }) => target)).toEqual(cases.map(([, forwarded]) => forwarded))
    })

    it('forwards nothing that could be read as a host, or whose prefix is spelt in another way', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({
        upstream: upstream.url,
        routes: [
          { name: 'cut', match: { path: '/cut' }, strip_path: true, upstream: 'main' },
          { name: 'moved', match: { path: '/moved' }, rewrite: '/m', upstream: 'main' },
        ],
      })
      const targets = [
        '/cut//evil.example/',
        '/cut/%2Fevil.example',
        '/cut/%5cevil',
        '/c%75t/1',
        '//cut/1',
        '/cut/../x',
      ]
      for (const target of [...targets, '/m%6fved/1', '//moved/1', '/moved/..%2fx']) {
        const answer = await requestOnce(gateway.port, [`GET ${target} HTTP/1.1`, 'Host: a'])
        expect(answer.status, target).toBe(400)
      }
      const backslash = await requestOnce(gateway.port, ['GET /cut/\\evil HTTP/1.1', 'Host: a'])
      expect(backslash.status).toBe(400)
      expect(upstream.connections).toBe(0)
    })

    it('sets, adds and removes fields, both ways', async () => {
      const upstream = await bench.upstream(
        startHttpUpstream((_request, answer) => {
          answer.setHeader('Link', '<a>')
          answer.setHeader('Server', 'theirs')
          answer.setHeader('X-Set', 'theirs')
          answer.end('ok')
        }),
      )
      const changes = { set: { 'X-Set': 'ours' }, add: { Link: '<b>' }, remove: ['Server'] }
      const gateway = await bench.gateway({
        upstream: upstream.url,
        routes: [{ name: 'main', upstream: 'main', headers: { request: changes, response: changes } }],
      })
      const answer = await requestOnce(gateway.port, [
        'GET / HTTP/1.1',
        'Host: a',
        'Link: <a>',
        'Server: mine',
        'x-set: mine',
      ])
      const wanted = { link: '<a>, <b>', 'x-set': 'ours' }
      expect(Object.fromEntries(answer.headers)).toMatchObject(wanted)
      expect(upstream.seen[0]?.headers).toMatchObject(wanted)
      expect(answer.headers.has('server')).toBe(false)
      expect(upstream.seen[0]?.headers.server).toBeUndefined()
    })

    it('matches by fields that are there, are not there, or have one value', async () => {
      const upstream = await bench.upstream(startHttpUpstream((request, answer) => answer.end(request.url)))
      const route = (name: string, headers: object) => ({
        name,
        match: { headers },
        rewrite: `/${name}`,
        upstream: 'main',
      })
      const gateway = await bench.gateway({
        upstream: upstream.url,
        routes: [
          route('two', { 'X-Version': '2' }),
          route('some', { 'x-version': { present: true } }),
          route('beta', { 'x-version': { present: false }, 'x-beta': { present: true } }),
        ],
      })
      const ask = async (...fields: string[]) => {
        const answer = await requestOnce(gateway.port, ['GET / HTTP/1.1', 'Host: a', ...fields])
        return answer.status === 200 ? answer.body.toString() : answer.status
      }
      expect(await ask('x-version: 2')).toBe('/two/')
      expect(await ask('x-version: 3')).toBe('/some/')
      expect(await ask('x-version:')).toBe('/some/')
      expect(await ask('x-version: 3', 'X-Beta: 1')).toBe('/some/')
      expect(await ask('X-Beta: 1')).toBe('/beta/')
      expect(await ask()).toBe(404)
    })
  })
}

for (const engines of ENGINE_PAIRS) {
  describeRouteFeatures(`${engines.front} front, ${engines.upstream} upstream`, {
    startGateway: startGatewayWith(engines),
  })
}
