import { Agent } from 'node:http'
import { afterEach, describe, expect, test } from 'vitest'
import { ask } from '../support/http-client.ts'
import { type InProcessGateway, startInProcess, until } from '../support/in-process.ts'
import { type HttpHandler, type HttpUpstream, startHttpUpstream } from '../support/upstreams.ts'

const THREADS = 4
const FRESH = { 'Cache-Control': 'max-age=60' }

describe('response cache over threads', () => {
  const undos: (() => PromiseLike<unknown>)[] = []
  afterEach(async () => {
    for (const undo of undos.splice(0).reverse()) await undo()
  })

  async function start(
    handler: HttpHandler,
    cache: object = {},
    route: object = {},
  ): Promise<{
    own: InProcessGateway
    upstream: HttpUpstream
    get(target: string, headers?: Record<string, string>): ReturnType<typeof ask>
  }> {
    const upstream = await startHttpUpstream(handler)
    undos.push(() => upstream.close())
    const own = await startInProcess({
      gateway: { listen: '127.0.0.1:0', workers: THREADS },
      upstreams: { main: { targets: [upstream.url] } },
      keyspaces: [{ ksid: 'ks_t', name: 't', keys_prefix: 't_', ratelimit: { limit: 1 } }],
      routes: [{ name: 'main', upstream: 'main', cache, ...route }],
    })
    undos.push(() => own[Symbol.asyncDispose]())
    const { port } = new URL(own.gateway.gatewayUrl)
    // Each request on a connection of its own, so that every thread gets some.
    const get = (target: string, headers: Record<string, string> = {}) =>
      ask(Number(port), target, { headers, agent: new Agent({ keepAlive: false }) })
    return { own, upstream, get }
  }

  test('a hundred requests for what is missing make one to the upstream, whatever thread they reach', async () => {
    const held: (() => void)[] = []
    const { upstream, get } = await start((request, answer) => {
      const send = () => answer.writeHead(200, FRESH).end('one')
      if (request.url === '/a') held.push(send)
      else send()
    })
    const asked = Array.from({ length: 100 }, () => get('/a'))
    await until(() => held.length > 0)
    // Time for all the others to come, and to be found waiting.
    await Promise.all(Array.from({ length: 20 }, (_, at) => get(`/other/${at}`)))
    for (const send of held) send()
    expect((await Promise.all(asked)).map((answer) => answer.body)).toEqual(Array(100).fill('one'))
    expect(upstream.seen.filter((seen) => seen.target === '/a').length).toBe(1)
  })

  test('what one thread has stored, all threads give; a purge reaches them all at once', async () => {
    let number = 0
    const { own, upstream, get } = await start((_request, answer) => {
      answer
        .writeHead(200, { ...FRESH, Vary: 'Accept-Language', 'Cache-Tag': 'tagged' })
        .end(String(++number))
    })
    for (let round = 1; round <= 5; round++) {
      for (let at = 0; at < 20; at++) expect((await get('/a')).body).toBe(String(round))
      expect(upstream.seen.length).toBe(round)
      expect(await own.gateway.purger.purge('tagged')).toEqual({ kind: 'done', acknowledged: 1 })
    }
  })

  test.each([
    ['its URL', {}],
    ['its variant', { Vary: 'Accept-Language' }],
  ])('what another thread has stored is a hit, at the price of one: %s', async (_, fields) => {
    const { own, upstream, get } = await start(
      (_request, answer) => {
        answer.writeHead(200, { 'Cache-Control': 'public, max-age=60', ...fields }).end('one')
      },
      { cost: 0 },
      { keyspace: 'ks_t' },
    )
    const { body } = await own.rpc('keys.create', { ksid: 'ks_t' })
    const headers = { 'x-api-key': (body as { token: string }).token }
    // The one token that the key has.
    expect((await get('/a', headers)).status).toBe(200)
    for (let at = 0; at < 20; at++) {
      const answer = await get('/a', headers)
      expect(answer.status).toBe(200)
      expect(answer.headers['cache-status']).toMatch(/^dripgate; hit; /)
    }
    expect(upstream.seen.length).toBe(1)
    expect((await get('/b', headers)).status).toBe(429)
  })

  test('an unsafe request to one thread outdates what all have', async () => {
    let number = 0
    const { own, get } = await start((_request, answer) => {
      answer.writeHead(200, FRESH).end(String(++number))
    })
    for (let at = 0; at < 20; at++) expect((await get('/a')).body).toBe('1')
    await fetch(`${own.gateway.gatewayUrl}/a`, { method: 'POST' })
    // The host is part of the URL; both ways of asking name the same one.
    for (let at = 0; at < 20; at++) expect((await get('/a')).body).toBe('3')
  })

  test('answers that are not for others keep nobody waiting', async () => {
    let number = 0
    const { get } = await start((_request, answer) => {
      answer.writeHead(200, { 'Cache-Control': 'no-store' }).end(String(++number))
    })
    const bodies = await Promise.all(Array.from({ length: 50 }, async () => (await get('/a')).body))
    expect(new Set(bodies).size).toBe(50)
  })

  test('a thread that dies while it fetches leaves the fetch to another', async () => {
    const held: (() => void)[] = []
    const { own, get } = await start((_request, answer) => {
      held.push(() => answer.writeHead(200, FRESH).end('one'))
    })
    const asked = Array.from({ length: 30 }, () =>
      get('/a').then(
        ({ body }) => body,
        () => 'broken off',
      ),
    )
    await until(() => held.length > 0)
    await Promise.all(
      own.gateway.threads
        .workers()
        .slice(0, THREADS - 1)
        .map((worker) => worker.terminate()),
    )
    const answering = setInterval(() => {
      for (const send of held.splice(0)) send()
    }, 20)
    const bodies = new Set(await Promise.all(asked))
    clearInterval(answering)
    expect([...bodies].every((body) => body === 'one' || body === 'broken off')).toBe(true)
    expect((await get('/a')).body).toBe('one')
  })
})
