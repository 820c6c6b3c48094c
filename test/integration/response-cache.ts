import { describe, expect, test } from 'vitest'
import { numbered, startCached } from '../support/cached-gateway.ts'
import { useCleanup } from '../support/cleanup.ts'
import { eventually, type StartGateway } from '../support/proxy-gateway.ts'

/** What is stored, for how long, and how it is given (RFC 9111). */
export function describeCache(name: string, startGateway: StartGateway): void {
  describe(`response cache, rules: ${name}`, () => {
    const cleanup = useCleanup()
    const start = (...rest: [Parameters<typeof startCached>[2], object?]) =>
      startCached(cleanup, startGateway, ...rest)

    test('a fresh answer is given again, with its age, until its lifetime is over', async () => {
      const cached = await start(numbered({ 'Cache-Control': 'max-age=60', 'X-Own': 'yes' }))
      const first = await cached.ask('/a')
      expect(cached.statusOf(first)).toBe('fwd=uri-miss; fwd-status=200; stored')
      cached.pass(59)
      const second = await cached.ask('/a')
      expect(second.body).toBe('1')
      expect(second.headers['age']).toBe('59')
      expect(second.headers['x-own']).toBe('yes')
      expect(cached.statusOf(second)).toBe('hit; ttl=1')
      cached.pass(1)
      expect((await cached.ask('/a')).body).toBe('2')
      await eventually(() => cached.gateway.records.length === 3, 'all are recorded')
      expect(cached.gateway.records.map((record) => record.cacheOutcome)).toEqual(['miss', 'hit', 'miss'])
    })

    test.each<[string, Record<string, string | string[]>, boolean]>([
      ['max-age', { 'Cache-Control': 'max-age=60' }, true],
      ['s-maxage over max-age', { 'Cache-Control': 'max-age=0, s-maxage=60' }, true],
      ['s-maxage=0 over max-age', { 'Cache-Control': 'max-age=60, s-maxage=0' }, false],
      ['Expires', { Expires: new Date(Date.now() + 60_000).toUTCString() }, true],
      ['Expires in the past', { Expires: new Date(Date.now() - 60_000).toUTCString() }, false],
      ['an Expires that is no date', { Expires: '0' }, false],
      [
        'max-age over Expires',
        { 'Cache-Control': 'max-age=0', Expires: new Date(Date.now() + 60_000).toUTCString() },
        false,
      ],
      ['an age beyond the lifetime', { 'Cache-Control': 'max-age=60', Age: '61' }, false],
      ['no-store', { 'Cache-Control': 'max-age=60, no-store' }, false],
      ['private', { 'Cache-Control': 'max-age=60, private' }, false],
      ['no-cache', { 'Cache-Control': 'max-age=60, no-cache' }, false],
      ['directives in capitals and quotes', { 'Cache-Control': 'MAX-AGE="60"' }, true],
      ['a directive inside of a quoted text', { 'Cache-Control': 'x="max-age=60"' }, false],
      ['a lifetime that is no number', { 'Cache-Control': 'max-age=60s' }, false],
      ['two lifetimes', { 'Cache-Control': ['max-age=60', 'max-age=0'] }, false],
      ['nothing', { 'Last-Modified': new Date(Date.now() - 1e9).toUTCString() }, false],
      ['must-revalidate while fresh', { 'Cache-Control': 'max-age=60, must-revalidate' }, true],
      ['Vary: *', { 'Cache-Control': 'max-age=60', Vary: '*' }, false],
      ['a cookie to be set', { 'Cache-Control': 'public, max-age=60', 'Set-Cookie': 'a=b' }, false],
      [
        'CDN-Cache-Control over Cache-Control',
        { 'Cache-Control': 'no-store', 'CDN-Cache-Control': 'max-age=60' },
        true,
      ],
      [
        'CDN-Cache-Control: no-store',
        { 'Cache-Control': 'max-age=60', 'CDN-Cache-Control': 'no-store' },
        false,
      ],
      [
        'a CDN-Cache-Control that is malformed',
        { 'Cache-Control': 'max-age=60', 'CDN-Cache-Control': 'no-store, &' },
        true,
      ],
    ])('%s', async (_, fields, isStored) => {
      const cached = await start(numbered(fields))
      await cached.ask('/a')
      expect((await cached.ask('/a')).body).toBe(isStored ? '1' : '2')
    })

    test('private and no-cache with fields keep those fields out, and nothing else', async () => {
      const cached = await start(
        numbered({
          'Cache-Control': 'max-age=60, private="x-secret", no-cache="x-once"',
          'X-Secret': 's',
          'X-Once': 'o',
          'X-All': 'a',
        }),
      )
      expect((await cached.ask('/a')).headers).toMatchObject({ 'x-secret': 's', 'x-once': 'o', 'x-all': 'a' })
      const { headers, body } = await cached.ask('/a')
      expect([body, headers['x-secret'], headers['x-once'], headers['x-all']]).toEqual([
        '1',
        undefined,
        undefined,
        'a',
      ])
    })

    test('ttl of the route is for answers that say nothing, and only for them', async () => {
      const cached = await start(
        (request, answer, number) => {
          if (request.url === '/silent') answer.end(String(number))
          else if (request.url === '/missing') answer.writeHead(404).end(String(number))
          else answer.writeHead(200, { 'Cache-Control': 'no-store' }).end(String(number))
        },
        { cache: { ttl: '30s' } },
      )
      expect([(await cached.ask('/silent')).body, (await cached.ask('/silent')).body]).toEqual(['1', '1'])
      expect([(await cached.ask('/secret')).body, (await cached.ask('/secret')).body]).toEqual(['2', '3'])
      expect([(await cached.ask('/missing')).body, (await cached.ask('/missing')).body]).toEqual(['4', '5'])
      cached.pass(30)
      expect((await cached.ask('/silent')).body).toBe('6')
    })

    test('variants are told apart by the fields that Vary names', async () => {
      const cached = await start((request, answer) => {
        answer.writeHead(200, { 'Cache-Control': 'max-age=60', Vary: 'Accept-Language' })
        answer.end(`${request.headers['accept-language']} ${cached.upstream.seen.length}`)
      })
      const inLanguage = async (language: string) =>
        (await cached.ask('/a', { headers: { 'accept-language': language } })).body
      expect([
        await inLanguage('de'),
        await inLanguage('en'),
        await inLanguage('de'),
        await inLanguage('en'),
      ]).toEqual(['de 1', 'en 2', 'de 1', 'en 2'])
      expect(cached.statusOf(await cached.ask('/a', { headers: { 'accept-language': 'fr' } }))).toContain(
        'fwd=vary-miss',
      )
    })

    test('HEAD is answered from what GET has stored, and never the other way round', async () => {
      const cached = await start((request, answer, number) => {
        answer.writeHead(200, { 'Cache-Control': 'max-age=60', 'Content-Length': '5' })
        answer.end(request.method === 'HEAD' ? '' : `body${number}`)
      })
      expect(cached.statusOf(await cached.ask('/a', { method: 'HEAD' }))).toBe('fwd=uri-miss')
      expect((await cached.ask('/a')).body).toBe('body2')
      const head = await cached.ask('/a', { method: 'HEAD' })
      expect([cached.statusOf(head), head.body, head.headers['content-length']]).toEqual([
        'hit; ttl=60',
        '',
        '5',
      ])
    })

    test('a client that has the answer gets 304 from the cache', async () => {
      const modified = new Date(Date.now() - 1e6).toUTCString()
      const cached = await start(
        numbered({ 'Cache-Control': 'max-age=60', ETag: '"v1"', 'Last-Modified': modified }),
      )
      await cached.ask('/a')
      for (const headers of [
        { 'if-none-match': '"v1"' },
        { 'if-none-match': 'W/"v1"' },
        { 'if-none-match': '"v0", "v1"' },
        { 'if-none-match': '*' },
        { 'if-modified-since': modified },
      ]) {
        const answer = await cached.ask('/a', { headers })
        expect([answer.status, answer.body, answer.headers.etag, answer.headers['content-length']]).toEqual([
          304,
          '',
          '"v1"',
          undefined,
        ])
      }
      for (const headers of [
        { 'if-none-match': '"v2"' },
        { 'if-none-match': '"v2"', 'if-modified-since': modified },
      ]) {
        expect((await cached.ask('/a', { headers })).status).toBe(200)
      }
      expect(cached.upstream.seen.length).toBe(1)
    })

    test('a stale answer is validated: 304 makes it fresh again, 200 replaces it', async () => {
      const cached = await start((request, answer, number) => {
        const isSame = request.headers['if-none-match'] === '"v1"' && number < 4
        answer.writeHead(isSame ? 304 : 200, {
          'Cache-Control': 'max-age=60',
          ETag: number < 4 ? '"v1"' : '"v2"',
          'X-Number': String(number),
        })
        answer.end(isSame ? undefined : `body${number}`)
      })
      await cached.ask('/a')
      cached.pass(61)
      const confirmed = await cached.ask('/a')
      expect([confirmed.status, confirmed.body, confirmed.headers['x-number']]).toEqual([200, 'body1', '2'])
      expect(cached.statusOf(confirmed)).toBe('fwd=stale; fwd-status=304; stored; ttl=60')
      expect(cached.statusOf(await cached.ask('/a'))).toContain('hit')
      cached.pass(61)
      // Its own condition holds too; the upstream was asked about the stored answer all the same.
      expect((await cached.ask('/a', { headers: { 'if-none-match': '"v1"' } })).status).toBe(304)
      cached.pass(61)
      expect((await cached.ask('/a')).body).toBe('body4')
      expect((await cached.ask('/a')).body).toBe('body4')
      expect(cached.upstream.seen.map((seen) => seen.headers['if-none-match'])).toEqual([
        undefined,
        '"v1"',
        '"v1"',
        '"v1"',
      ])
    })

    test('a 304 about another answer than the stored one is not believed', async () => {
      const cached = await start((request, answer, number) => {
        const isConditional = request.headers['if-none-match'] !== undefined
        answer.writeHead(isConditional ? 304 : 200, { 'Cache-Control': 'max-age=60', ETag: `"v${number}"` })
        answer.end(isConditional ? undefined : `body${number}`)
      })
      await cached.ask('/a')
      cached.pass(61)
      expect((await cached.ask('/a')).body).toBe('body3')
    })

    test('what the client asks of the cache counts', async () => {
      const cached = await start(numbered({ 'Cache-Control': 'max-age=60' }))
      const asking = async (directive: string) =>
        await cached.ask('/a', { headers: { 'cache-control': directive } })
      expect((await asking('only-if-cached')).status).toBe(504)
      await cached.ask('/a')
      cached.pass(10)
      expect((await asking('max-age=10')).body).toBe('1')
      expect((await asking('max-age=5')).body).toBe('2')
      expect((await asking('no-cache')).body).toBe('3')
      expect((await cached.ask('/a', { headers: { pragma: 'no-cache' } })).body).toBe('4')
      expect((await asking('min-fresh=61')).body).toBe('5')
      expect((await asking('no-store')).body).toBe('5')
      cached.pass(65)
      expect((await asking('max-stale=5')).body).toBe('5')
      expect((await asking('max-stale=4')).body).toBe('6')
      cached.pass(65)
      expect((await asking('no-store')).body).toBe('7')
      expect((await cached.ask('/a')).body).toBe('8')
    })

    test.each(['POST', 'PUT', 'PATCH', 'DELETE'])(
      'a %s that succeeds outdates what is stored',
      async (method) => {
        const cached = await start((request, answer, number) => {
          answer.writeHead(request.url === '/fails' && request.method !== 'GET' ? 500 : 200, {
            'Cache-Control': 'max-age=60',
            ...(request.method === 'GET'
              ? {}
              : { Location: '/b', 'Content-Location': 'http://elsewhere.example/c' }),
          })
          answer.end(String(number))
        })
        for (const target of ['/a', '/b', '/c', '/fails']) await cached.ask(target)
        await cached.ask('/a', { method })
        await cached.ask('/fails', { method })
        expect((await cached.ask('/fails')).body).toBe('4')
        expect((await cached.ask('/c')).body).toBe('3')
        expect((await cached.ask('/a')).body).toBe('7')
        expect((await cached.ask('/b')).body).toBe('8')
      },
    )

    test('an unsafe request to another route of the same path outdates it, too', async () => {
      const cached = await startCached(
        cleanup,
        startGateway,
        numbered({ 'Cache-Control': 'max-age=60' }),
        {},
        {
          routes: [
            { name: 'read', match: { path: '/x', methods: ['GET'] }, upstream: 'main', cache: {} },
            { name: 'write', match: { path: '/x', methods: ['POST'] }, upstream: 'main' },
          ],
        },
      )
      await cached.ask('/x/1')
      const posted = await cached.ask('/x/1', { method: 'POST' })
      expect(posted.headers['cache-status']).toBeUndefined()
      expect((await cached.ask('/x/1')).body).toBe('3')
    })

    test('ranges pass: 206 is neither stored nor made', async () => {
      const cached = await start((request, answer, number) => {
        const isPart = request.headers.range !== undefined
        answer.writeHead(isPart ? 206 : 200, {
          'Cache-Control': 'max-age=60',
          ...(isPart ? { 'Content-Range': 'bytes 0-0/1' } : {}),
        })
        answer.end(String(number))
      })
      await cached.ask('/a')
      expect((await cached.ask('/a', { headers: { range: 'bytes=0-0' } })).status).toBe(206)
      expect((await cached.ask('/a')).body).toBe('1')
    })

    test('stale_while_revalidate gives the old answer at once and fetches the new one behind it', async () => {
      const cached = await start(
        numbered({ 'Cache-Control': 'max-age=10, stale-while-revalidate=10', ETag: '"a"' }),
      )
      await cached.ask('/a')
      cached.pass(15)
      const stale = await cached.ask('/a')
      expect([stale.body, cached.statusOf(stale)]).toEqual(['1', 'hit; ttl=-5'])
      await expect.poll(async () => (await cached.ask('/a')).body).toBe('2')
      expect(cached.gateway.records.length).toBeGreaterThanOrEqual(3)
      expect(cached.gateway.records.every((record) => record.remoteAddress === '127.0.0.1')).toBe(true)
      cached.pass(25)
      expect((await cached.ask('/a')).body).toBe('3')
      expect(cached.upstream.seen.length).toBe(3)
    })

    test('stale_if_error gives the old answer while the upstream fails, unless it must be validated', async () => {
      const cached = await start(
        (request, answer, number) => {
          const cacheControl = request.url === '/strict' ? 'max-age=10, must-revalidate' : 'max-age=10'
          if (number <= 2) answer.writeHead(200, { 'Cache-Control': cacheControl }).end(String(number))
          else if (number % 2 === 1) answer.writeHead(503).end('down')
          else answer.destroy()
        },
        { cache: { stale_if_error: '60s' } },
      )
      await cached.ask('/a')
      await cached.ask('/strict')
      cached.pass(20)
      expect((await cached.ask('/a')).body).toBe('1')
      expect((await cached.ask('/a')).body).toBe('1')
      expect((await cached.ask('/strict')).status).toBe(503)
      cached.pass(60)
      expect((await cached.ask('/a')).status).toBeGreaterThanOrEqual(502)
    })
  })
}
