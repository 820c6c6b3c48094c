import { writeFileSync } from 'node:fs'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import {
  CLIENT,
  type Collector,
  SERVER,
  type SeenSpan,
  startCollector,
  toRecord,
} from '../support/collector.ts'
import { ROOT_TOKEN, type RunningGateway, startGateway } from '../support/gateway.ts'
import { until } from '../support/redis.ts'
import { type RawAnswer, send } from '../support/rpc-client.ts'
import { findClosedPort, type HttpUpstream, startHttpUpstream } from '../support/upstreams.ts'

/** Spans of the gateway at a collector, over real sockets, and how they hang together. */

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const CALLER = '00f067aa0ba902b7'
const SAMPLED = `00-${TRACE}-${CALLER}-01`
const UNSAMPLED = `00-${TRACE}-${CALLER}-00`
const COLLECTOR_KEY = 'key-of-the-collector'

let upstream: HttpUpstream
let collector: Collector
let deadUrl: string
beforeAll(async () => {
  upstream = await startHttpUpstream((request, answer) => {
    answer.statusCode = request.url?.startsWith('/broken') ? 500 : 200
    answer.end('ok')
  })
  collector = await startCollector()
  deadUrl = `http://127.0.0.1:${await findClosedPort()}`
})
afterAll(async () => {
  await upstream.close()
  await collector.close()
})
beforeEach(() => {
  collector.behaviour = 'take'
  collector.server.seen.length = 0
  upstream.seen.length = 0
})

function toConfig(engine: string, tracing: object | undefined = {}) {
  return {
    gateway: {
      listen: '127.0.0.1:0',
      workers: 1,
      engine,
      tracing: {
        otlp: { endpoint: collector.server.url, headers: { 'X-Collector-Key': COLLECTOR_KEY } },
        ...tracing,
      },
    },
    upstreams: { echo: { targets: [upstream.url] }, dead: { targets: [deadUrl] } },
    keyspaces: [{ ksid: 'ks_a', name: 'a', keys_prefix: 'a' }],
    routes: [
      { name: 'open', match: { path: '/' }, upstream: 'echo' },
      { name: 'dead', match: { path: '/dead' }, upstream: 'dead' },
      { name: 'closed', match: { path: '/closed' }, keyspace: 'ks_a', upstream: 'echo' },
      { name: 'cached', match: { path: '/cached' }, upstream: 'echo', cache: { ttl: '1m' } },
      {
        name: 'bare',
        match: { path: '/bare' },
        upstream: 'echo',
        headers: { request: { remove: ['traceparent', 'tracestate'] } },
      },
    ],
  }
}

function call(
  gateway: RunningGateway,
  target: string,
  headers: Record<string, string> = {},
): Promise<RawAnswer> {
  return send(gateway.gatewayUrl, target, { method: 'GET', headers })
}

async function waitForSpans(count: number): Promise<SeenSpan[]> {
  await until(() => collector.spans().length >= count)
  return collector.spans()
}

async function readCounts(gateway: RunningGateway): Promise<{ sent: number; dropped: number }> {
  const { text } = await send(gateway.adminUrl, '/metrics', { method: 'GET' })
  const read = (outcome: string) =>
    Number(text.match(new RegExp(`^dripgate_otlp_spans_total\\{outcome="${outcome}"\\} (\\d+)$`, 'm'))?.[1])
  return { sent: read('sent'), dropped: read('dropped') }
}

describe.each(['raw', 'node'])('with the engine %s', (engine) => {
  let gateway: RunningGateway
  beforeAll(async () => {
    gateway = await startGateway({ config: toConfig(engine) })
  })
  afterAll(() => gateway.stop())

  it('puts a span of its own between the client and the upstream', async () => {
    const startMs = Date.now()
    await call(gateway, '/some/path?secret=1', { traceparent: SAMPLED, tracestate: 'a=1' })
    const spans = await waitForSpans(2)
    const server = spans.find(({ kind }) => kind === SERVER)
    const client = spans.find(({ kind }) => kind === CLIENT)
    expect(spans.length).toBe(2)
    expect(server).toMatchObject({ traceId: TRACE, parentSpanId: CALLER, name: 'GET open' })
    expect(client).toMatchObject({ traceId: TRACE, parentSpanId: server?.spanId, name: 'GET' })
    expect(client?.spanId).not.toBe(server?.spanId)
    expect(upstream.seen[0]?.headers).toMatchObject({
      traceparent: `00-${TRACE}-${client?.spanId}-01`,
      tracestate: 'a=1',
    })
    expect(upstream.seen[0]?.rawHeaders.filter((name) => name.toLowerCase() === 'traceparent').length).toBe(1)
    expect(server?.attributes).toMatchObject({
      'http.request.method': 'GET',
      'http.response.status_code': '200',
      'http.route': 'open',
      'url.path': '/some/path',
      'url.scheme': 'http',
      'network.protocol.version': '1.1',
      'client.address': '127.0.0.1',
      'server.address': '127.0.0.1',
      'server.port': new URL(gateway.gatewayUrl).port,
      'dripgate.decision': 'open',
    })
    expect(client?.attributes).toMatchObject({
      'http.request.method': 'GET',
      'http.response.status_code': '200',
      'server.address': '127.0.0.1',
      'server.port': String(upstream.port),
      'dripgate.upstream': 'echo',
    })
    expect([server?.status, client?.status]).toEqual([undefined, undefined])
    const times = [
      server?.startTimeUnixNano,
      client?.startTimeUnixNano,
      client?.endTimeUnixNano,
      server?.endTimeUnixNano,
    ].map((nanos) => BigInt(nanos ?? -1))
    expect(times).toEqual(times.toSorted((a, b) => (a < b ? -1 : 1)))
    expect(times[0]).toBeGreaterThanOrEqual(BigInt(startMs) * 1_000_000n)
    expect(times[3]).toBeLessThanOrEqual(BigInt(Date.now()) * 1_000_000n)
  })

  it('says who it is, under the fields that the collector asks for', async () => {
    await call(gateway, '/')
    await waitForSpans(2)
    const [request] = collector.server.seen
    expect(request).toMatchObject({
      method: 'POST',
      target: '/v1/traces',
      headers: { 'content-type': 'application/json', 'x-collector-key': COLLECTOR_KEY },
    })
    const { resource } = JSON.parse(String(request?.body)).resourceSpans[0]
    expect(toRecord(resource.attributes)).toEqual({
      'service.name': 'dripgate',
      'service.version': expect.stringMatching(/^\d+\.\d+\.\d+/),
    })
  })

  it('begins a trace for requests without one, also for those that it refuses', async () => {
    await call(gateway, '/')
    expect((await call(gateway, '/closed')).status).toBe(401)
    const spans = await waitForSpans(3)
    const [forwarded, client, refused] = spans
    expect(spans.length).toBe(3)
    expect(upstream.seen[0]?.headers['traceparent']).toBe(`00-${forwarded?.traceId}-${client?.spanId}-01`)
    expect(forwarded).not.toHaveProperty('parentSpanId')
    expect(refused).not.toHaveProperty('parentSpanId')
    expect(refused?.traceId).not.toBe(forwarded?.traceId)
    expect(refused?.attributes).toMatchObject({
      'http.response.status_code': '401',
      'dripgate.decision': 'missing_token',
    })
    expect(refused).not.toHaveProperty('status')
  })

  it('passes on traces that are not sampled under its own id, and exports nothing of them', async () => {
    await call(gateway, '/', { traceparent: UNSAMPLED, tracestate: 'a=1' })
    await call(gateway, '/')
    const [first] = await waitForSpans(2)
    const passed = upstream.seen[0]?.headers
    expect(passed?.['traceparent']).toMatch(new RegExp(`^00-${TRACE}-[0-9a-f]{16}-00$`))
    expect(passed?.['traceparent']).not.toBe(UNSAMPLED)
    expect(passed?.['tracestate']).toBe('a=1')
    expect(first?.traceId).not.toBe(TRACE)
    expect(collector.spans().length).toBe(2)
  })

  it('marks failures of the upstream, with and without an answer', async () => {
    expect((await call(gateway, '/broken')).status).toBe(500)
    expect((await call(gateway, '/dead')).status).toBe(502)
    const [server, client, deadServer, deadClient] = await waitForSpans(4)
    for (const span of [server, client, deadServer, deadClient]) expect(span?.status).toEqual({ code: 2 })
    expect(client?.attributes).toMatchObject({ 'http.response.status_code': '500', 'error.type': '500' })
    expect(deadServer?.attributes).toMatchObject({ 'http.response.status_code': '502' })
    expect(deadClient?.attributes).not.toHaveProperty('http.response.status_code')
    expect(deadClient?.attributes).toMatchObject({ 'error.type': '_OTHER' })
  })

  it('has a span of the upstream only where it was asked', async () => {
    for (const _ of [1, 2]) await call(gateway, '/cached/x')
    const spans = await waitForSpans(3)
    expect(spans.map(({ kind }) => kind)).toEqual([SERVER, CLIENT, SERVER])
    expect(spans.map(({ attributes }) => attributes['dripgate.cache'])).toEqual(['miss', undefined, 'hit'])
  })

  it('decides by itself where the route does not take over the trace of the client', async () => {
    await call(gateway, '/bare', { traceparent: SAMPLED, tracestate: 'a=1' })
    const [server] = await waitForSpans(2)
    expect(server?.traceId).not.toBe(TRACE)
    expect(server).not.toHaveProperty('parentSpanId')
    expect(upstream.seen[0]?.headers).not.toHaveProperty('traceparent')
    expect(upstream.seen[0]?.headers).not.toHaveProperty('tracestate')
  })

  it('tells the collector no token, no query and no field', async () => {
    const created = await gateway.rpc('keys.create', { ksid: 'ks_a' })
    const { token } = created.body as { token: string }
    expect(created.status).toBe(200)
    const headers = { authorization: `Bearer ${token}`, cookie: 'session=hidden' }
    expect((await call(gateway, '/closed?password=hidden', headers)).status).toBe(200)
    expect((await call(gateway, '/closed', { authorization: 'Bearer a_unknown' })).status).toBe(401)
    await waitForSpans(3)
    const told = collector.server.seen.map(({ body }) => String(body)).join()
    for (const secret of [token, 'hidden', 'password', 'a_unknown', 'Bearer', ROOT_TOKEN]) {
      expect(told).not.toContain(secret)
    }
  })

  it.each(['fail', 'hang'] as const)('serves requests while the collector does %s', async (behaviour) => {
    collector.behaviour = behaviour
    await using slow = await startGateway({
      config: toConfig(engine, { otlp: { endpoint: collector.server.url, timeout: '200ms' } }),
    })
    for (let n = 0; n < 20; n++) expect((await call(slow, '/')).status).toBe(200)
    await until(async () => (await readCounts(slow)).dropped === 40)
    expect((await readCounts(slow)).sent).toBe(0)
    const warned = slow.lines.filter(({ msg }) => msg === 'spans were dropped')
    expect(warned.length).toBe(1)
    expect(warned[0]?.['cause']).toContain(behaviour === 'fail' ? '500' : 'within 200 ms')
    collector.behaviour = 'take'
    await call(slow, '/')
    await until(async () => (await readCounts(slow)).sent === 2)
  })
})

it('sends what waits when it stops', async () => {
  const gateway = await startGateway({ config: toConfig('raw') })
  await call(gateway, '/')
  await gateway.stop()
  expect(collector.spans().length).toBe(2)
})

it('stops in time though the collector does not answer', async () => {
  collector.behaviour = 'hang'
  const gateway = await startGateway({ config: toConfig('raw') })
  await call(gateway, '/')
  const startedMs = performance.now()
  await gateway.stop()
  // Without a limit it would be the ten seconds that the collector is given.
  expect(performance.now() - startedMs).toBeLessThan(8000)
})

it('exports none of the traces that it makes at a ratio of 0', async () => {
  const gateway = await startGateway({ config: toConfig('raw', { sample_ratio: 0 }) })
  await call(gateway, '/')
  await call(gateway, '/closed')
  expect(upstream.seen[0]?.headers['traceparent']).toMatch(/-00$/)
  expect(await readCounts(gateway)).toEqual({ sent: 0, dropped: 0 })
  await gateway.stop()
  expect(collector.server.seen).toEqual([])
})

it('begins and ends to take part with a reload', async () => {
  await using gateway = await startGateway({ config: toConfig('raw', { otlp: undefined }) })
  const reload = async (tracing?: object) => {
    const config = {
      ...toConfig('raw', tracing),
      admin: { listen: '127.0.0.1:0', root_token: ROOT_TOKEN },
      store: { path: './data' },
    }
    writeFileSync(gateway.configFile, JSON.stringify(config))
    expect((await gateway.rpc('config.reload')).status).toBe(200)
  }
  const passed = async () => {
    await call(gateway, '/', { traceparent: SAMPLED })
    return upstream.seen.at(-1)?.headers['traceparent']
  }
  expect(await passed()).toBe(SAMPLED)
  await reload()
  const [, client] = [await passed(), ...(await waitForSpans(2)).slice(1)]
  expect(upstream.seen.at(-1)?.headers['traceparent']).toBe(`00-${TRACE}-${(client as SeenSpan).spanId}-01`)
  await reload({ otlp: undefined })
  expect(await passed()).toBe(SAMPLED)
})
