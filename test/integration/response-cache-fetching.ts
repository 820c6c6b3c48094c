import { describe, expect, test } from 'vitest'
import { parsePurgeKey } from '../../src/domain/purge-key.ts'
import { listPurgeMarks } from '../../src/domain/purge-marks.ts'
import { type CachedGateway, numbered, startCached } from '../support/cached-gateway.ts'
import { useCleanup } from '../support/cleanup.ts'
import { eventually, type StartGateway } from '../support/proxy-gateway.ts'
import { RawClient } from '../support/raw-client.ts'
import { startRawUpstream } from '../support/upstreams.ts'

const FRESH = { 'Cache-Control': 'max-age=60' }

function purge({ gateway }: CachedGateway, key: string): void {
  gateway.cache.counters.raise(listPurgeMarks(parsePurgeKey(key)))
}

/** How answers are fetched, kept within bounds, and purged. */
export function describeCacheFetching(name: string, startGateway: StartGateway): void {
  describe(`response cache, fetching: ${name}`, () => {
    const cleanup = useCleanup()
    const start = (...rest: [Parameters<typeof startCached>[2], object?, object?]) =>
      startCached(cleanup, startGateway, ...rest)

    test('a hundred requests for what is missing make one to the upstream', async () => {
      const held: (() => void)[] = []
      const cached = await start((_request, answer, number) => {
        held.push(() => answer.writeHead(200, FRESH).end(String(number)))
      })
      const asked = Array.from({ length: 100 }, () => cached.ask('/a'))
      await eventually(() => held.length > 0, 'the first request arrives')
      await eventually(() => waitersOf(cached) === 99, 'the others wait')
      for (const answer of held) answer()
      const answers = await Promise.all(asked)
      expect(answers.map((answer) => answer.body)).toEqual(Array(100).fill('1'))
      expect(answers.filter((answer) => cached.statusOf(answer).includes('collapsed')).length).toBe(99)
      expect(cached.upstream.begun).toBe(1)
    })

    test('who waits goes itself when the answer is not for others', async () => {
      const held: (() => void)[] = []
      const cached = await start((_request, answer, number) => {
        const send = () =>
          answer.writeHead(200, { 'Cache-Control': 'private, max-age=60' }).end(String(number))
        if (number === 1) held.push(send)
        else send()
      })
      const asked = Array.from({ length: 5 }, () => cached.ask('/a'))
      await eventually(() => waitersOf(cached) === 4, 'the others wait')
      for (const answer of held) answer()
      expect((await Promise.all(asked)).map((answer) => answer.body).sort()).toEqual([
        '1',
        '2',
        '3',
        '4',
        '5',
      ])
    })

    test('when the one who fetches leaves, the next one fetches', async () => {
      const held: (() => void)[] = []
      const cached = await start((_request, answer, number) => {
        held.push(() => answer.writeHead(200, FRESH).end(String(number)))
      })
      const leaving = new AbortController()
      const first = cached.ask('/a', { signal: leaving.signal }).catch(() => 'left')
      await eventually(() => held.length === 1, 'the first request arrives')
      const others = [cached.ask('/a'), cached.ask('/a')]
      await eventually(() => waitersOf(cached) === 2, 'the others wait')
      leaving.abort()
      await eventually(() => held.length === 2, 'the next one is sent')
      held[1]?.()
      expect((await Promise.all(others)).map((answer) => answer.body)).toEqual(['2', '2'])
      expect(await first).toBe('left')
      expect(cached.upstream.begun).toBe(2)
    })

    test('a client that leaves while it waits takes nobody with it', async () => {
      const held: (() => void)[] = []
      const cached = await start((_request, answer, number) => {
        held.push(() => answer.writeHead(200, FRESH).end(String(number)))
      })
      const first = cached.ask('/a')
      await eventually(() => held.length === 1, 'the first request arrives')
      const leaving = new AbortController()
      const gone = cached.ask('/a', { signal: leaving.signal }).catch(() => 'left')
      await eventually(() => waitersOf(cached) === 1, 'it waits')
      leaving.abort()
      await gone
      await eventually(() => waitersOf(cached) === 0, 'it is forgotten')
      held[0]?.()
      expect((await first).body).toBe('1')
      expect((await cached.ask('/a')).body).toBe('1')
    })

    test('a purge outdates what is stored and what is on its way', async () => {
      const held: (() => void)[] = []
      const cached = await start((request, answer, number) => {
        const send = () => answer.writeHead(200, { ...FRESH, 'Cache-Tag': 'late, other' }).end(String(number))
        if (request.url === '/slow' && number < 3) held.push(send)
        else send()
      })
      expect((await cached.ask('/a')).body).toBe('1')
      purge(cached, 'tag:late')
      const slow = cached.ask('/slow')
      await eventually(() => held.length === 1, 'the slow one arrives')
      const waiting = cached.ask('/slow')
      await eventually(() => waitersOf(cached) === 1, 'the second waits')
      // The tag is not known before the answer comes.
      purge(cached, 'late')
      held[0]?.()
      expect((await slow).body).toBe('2')
      expect((await waiting).body).toBe('3')
      expect((await cached.ask('/slow')).body).toBe('3')
      expect((await cached.ask('/a')).body).toBe('4')
    })

    test.each([
      ['tag:user-7', true],
      ['user-7', true],
      ['tag:7', false],
      ['name-7', true],
      ['tag:name-7', false],
      ['from-upstream', true],
      ['second', true],
      ['group one', true],
      ['route:main', true],
      ['route:other', false],
      ['url:http://api.example.com/users/7?x=1', true],
      ['url:HTTPS://API.example.com:443/users/%37?x=1#part', true],
      ['http://api.example.com/users/7?x=1', true],
      ['url:/users/7?x=1', true],
      ['url:http://api.example.com/users/7', false],
      ['url:http://other.example.com/users/7?x=1', false],
      ['all:', true],
      ['key:k_1', false],
    ])('purge of %s', async (key, isGone) => {
      const cached = await start(
        numbered({
          ...FRESH,
          'Cache-Tag': 'from-upstream',
          'Surrogate-Key': 'first second',
          'Cache-Groups': '"group one", "b"',
        }),
        { cache: { tags: ['user-{path.2}', 'none-{header.x-none}'], key: 'name-{path.2}' } },
      )
      const options = { headers: { host: 'api.example.com' } }
      const first = await cached.ask('/users/7?x=1', options)
      expect([first.headers['cache-tag'], first.headers['surrogate-key']]).toEqual([undefined, undefined])
      purge(cached, 'none-')
      expect((await cached.ask('/users/7?x=1', options)).body).toBe('1')
      purge(cached, key)
      const after = await cached.ask('/users/7?x=1', options)
      expect(after.body).toBe(isGone ? '2' : '1')
      expect(after.headers['cache-groups']).toBe('"group one", "b"')
      expect([after.headers['cache-tag'], after.headers['surrogate-key']]).toEqual([undefined, undefined])
    })

    test('tags stay with an answer that the upstream has confirmed', async () => {
      const cached = await start((request, answer, number) => {
        const isSame = request.headers['if-none-match'] !== undefined
        answer.writeHead(isSame ? 304 : 200, {
          ...FRESH,
          ETag: '"a"',
          ...(isSame ? {} : { 'Cache-Tag': 'kept' }),
        })
        answer.end(isSame ? undefined : String(number))
      })
      await cached.ask('/a')
      cached.pass(61)
      expect((await cached.ask('/a')).body).toBe('1')
      purge(cached, 'kept')
      expect((await cached.ask('/a')).body).toBe('3')
    })

    test('an answer to an unsafe request may outdate a group (RFC 9875), of its own host only', async () => {
      const cached = await start((request, answer, number) => {
        const field = request.method === 'GET' ? 'Cache-Groups' : 'Cache-Group-Invalidation'
        answer.writeHead(200, { ...FRESH, [field]: '"news"' }).end(String(number))
      })
      const at = (host: string, method = 'GET') =>
        cached.ask(method === 'GET' ? '/a' : '/b', { method, headers: { host } })
      await at('one.example')
      await at('two.example')
      await at('one.example', 'POST')
      expect((await at('two.example')).body).toBe('2')
      expect((await at('one.example')).body).toBe('4')
    })

    test('without a lease nothing is given from the cache, and with it all is well again', async () => {
      const cached = await start(numbered(FRESH))
      await cached.ask('/a')
      cached.gateway.cache.counters.setLease(0)
      const bypassed = await cached.ask('/a')
      expect([bypassed.body, cached.statusOf(bypassed)]).toEqual(['2', 'fwd=bypass'])
      cached.gateway.cache.counters.setLease(Number.POSITIVE_INFINITY)
      expect((await cached.ask('/a')).body).toBe('1')
    })

    test('an answer above max_entry passes whole and is not stored', async () => {
      const cached = await start(
        (request, answer) => {
          const isChunked = request.url === '/chunked'
          answer.writeHead(200, { ...FRESH, ...(isChunked ? {} : { 'Content-Length': '70000' }) })
          answer.write('a'.repeat(35_000))
          answer.end('b'.repeat(35_000))
        },
        { cache: { max_entry: '64KiB' } },
      )
      for (const target of ['/known', '/chunked', '/known', '/chunked']) {
        expect((await cached.ask(target)).body.length).toBe(70_000)
      }
      expect(cached.upstream.begun).toBe(4)
    })

    test('memory is bounded: what was not used for longest goes', async () => {
      const cached = await start(
        (_request, answer, number) => {
          answer.writeHead(200, FRESH).end(String(number).padEnd(200_000, '.'))
        },
        {},
        { gateway: { cache: { memory: '1MiB' } } },
      )
      for (let at = 0; at < 4; at++) await cached.ask(`/${at}`)
      expect(cached.statusOf(await cached.ask('/0'))).toContain('hit')
      await cached.ask('/4')
      await cached.ask('/5')
      expect(cached.statusOf(await cached.ask('/0'))).toContain('hit')
      expect(cached.statusOf(await cached.ask('/1'))).toContain('miss')
    })

    test('a large stored body reaches a slow client whole', async () => {
      const body = Array.from({ length: 100_000 }, (_, at) => String(at).padStart(8, '0')).join('')
      const cached = await start((_request, answer) => {
        answer.writeHead(200, { ...FRESH, 'Content-Length': String(body.length) }).end(body)
      })
      await cached.ask('/a', { headers: { host: 'a' } })
      const client = new RawClient(cached.gateway.port)
      cleanup.later(() => client.socket.destroy())
      client.socket.pause()
      client.send('GET /a HTTP/1.1', 'Host: a')
      await new Promise((resolve) => setTimeout(resolve, 50))
      client.socket.resume()
      const answer = await client.readAnswer()
      expect(answer.body.toString()).toBe(body)
      expect(cached.upstream.begun).toBe(1)
    })

    test.each([
      ['an announced length that is not reached', 'Content-Length: 10\r\n\r\n12345'],
      ['a chunked body without its end', 'Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n'],
      ['an end that only the connection tells', 'Connection: close\r\n\r\n12345'],
    ])('a body that may have been cut is never stored: %s', async (_, rest) => {
      let requests = 0
      const upstream = await cleanup.open(
        startRawUpstream((connection) => {
          connection.onHead(() => {
            requests++
            connection.write(`HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n${rest}`)
            connection.socket.end()
          })
        }),
      )
      const cached = await start(numbered(FRESH), {}, { upstream: upstream.url })
      await cached.ask('/a').catch(() => {})
      await cached.ask('/a').catch(() => {})
      expect(requests).toBe(2)
    })

    test('a reload that changes the route starts with an empty cache, another one does not', async () => {
      const cached = await start(numbered(FRESH))
      const routes = (route: object) => [{ name: 'main', upstream: 'main', cache: {}, ...route }]
      const reload = (route: object) =>
        cached.gateway.reload({ upstream: cached.upstream.url, routes: routes(route) })
      await cached.ask('/a')
      reload({})
      expect((await cached.ask('/a')).body).toBe('1')
      reload({ cache: { vary_by: 'shared' } })
      expect((await cached.ask('/a')).body).toBe('2')
    })

    test('a request that may mean another one is forwarded, whatever is stored', async () => {
      const cached = await start(numbered(FRESH))
      await cached.ask('/a')
      const answer = await cached.ask('/a', { headers: { 'x-http-method-override': 'DELETE' } })
      expect(cached.statusOf(answer)).toBe('fwd=bypass')
    })
  })
}

function waitersOf({ gateway }: CachedGateway): number {
  return gateway.cache.flights.waiting
}
