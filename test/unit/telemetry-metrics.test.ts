import { Worker } from 'node:worker_threads'
import { expect, it } from 'vitest'
import type { FinishedExchange } from '../../src/ports/runtime.ts'
import {
  type Counters,
  createCounters,
  createNames,
  DECISIONS,
  NAMES_MAX,
  type NameRegistry,
} from '../../src/telemetry/counters.ts'
import { createMetrics, type Metrics } from '../../src/telemetry/metrics.ts'
import { createRecorder } from '../../src/telemetry/recorder.ts'

const TEXT = 'text/plain; version=0.0.4; charset=utf-8'
const OPEN_METRICS = 'application/openmetrics-text; version=1.0.0; charset=utf-8'
const NONE = { routes: [], upstreams: [] }

function exchange(change: Partial<FinishedExchange> = {}): FinishedExchange {
  return {
    routeId: 0,
    routeName: 'orders',
    decision: 'allowed',
    status: 200,
    method: 'GET',
    path: '/orders/1',
    startMs: 0,
    durationMs: 4,
    upstreamName: 'shop',
    upstreamId: 0,
    upstreamMs: 3,
    bytesIn: 10,
    bytesOut: 100,
    requestId: 'r-1',
    kid: 'k_planted_secret',
    remoteAddress: '192.0.2.77',
    aborted: false,
    ...change,
  }
}

interface Setup {
  readonly counters: Counters
  readonly names: NameRegistry
  readonly metrics: Metrics
}

function setUp(threads = 1): Setup {
  const counters = createCounters(threads)
  const names = createNames()
  names.add({ routes: ['orders'], upstreams: ['shop'] })
  return {
    counters,
    names,
    metrics: createMetrics({ counters, names, version: '1.2.3', nowMs: () => 5000, upstreams: () => [] }),
  }
}

function recorderOf({ counters, names }: Setup, threadIndex = 0) {
  return createRecorder({ counters, threadIndex, names: names.all() })
}

/** Series with their labels in alphabetical order → value. Fails on any line that is not one. */
async function scrape(metrics: Metrics): Promise<Map<string, number>> {
  const series = new Map<string, number>()
  for (const line of (await metrics.render()).body.split('\n')) {
    if (line === '' || /^# (HELP|TYPE) [a-z0-9_]+ /.test(line)) continue
    const found = /^([a-z0-9_]+)(?:\{(.*)\})? (\S+)$/.exec(line)
    if (found === null) throw new Error(`not a sample: ${line}`)
    const labels = (found[2] ?? '').match(/[a-z_]+="(?:[^"\\]|\\.)*"/g) ?? []
    const name = `${found[1]}{${labels.sort().join(',')}}`
    if (series.has(name)) throw new Error(`twice: ${name}`)
    series.set(name, found[3] === '+Inf' ? Number.POSITIVE_INFINITY : Number(found[3]))
  }
  return series
}

it('counts each request once, by route, decision and code', async () => {
  const setup = setUp()
  const recorder = recorderOf(setup)
  recorder.record(exchange())
  recorder.record(exchange({ status: 299 }))
  recorder.record(exchange({ decision: 'limited', status: 429, upstreamName: '', upstreamMs: -1 }))
  recorder.record(exchange({ decision: 'rejected', status: 400, routeName: 'none', upstreamMs: -1 }))
  recorder.record(exchange({ decision: 'open', status: 101 }))
  recorder.record(exchange({ status: 503, decision: 'store_error', upstreamMs: -1 }))
  const series = await scrape(setup.metrics)
  const requests = [...series].filter(([name]) => name.startsWith('dripgate_requests_total'))
  expect(Object.fromEntries(requests)).toEqual({
    'dripgate_requests_total{code="2xx",decision="allowed",route="orders"}': 2,
    'dripgate_requests_total{code="4xx",decision="limited",route="orders"}': 1,
    'dripgate_requests_total{code="4xx",decision="rejected",route="none"}': 1,
    'dripgate_requests_total{code="1xx",decision="open",route="orders"}': 1,
    'dripgate_requests_total{code="5xx",decision="store_error",route="orders"}': 1,
  })
})

it.each(DECISIONS)('has a series for the decision %s', async (decision) => {
  const setup = setUp()
  recorderOf(setup).record(exchange({ decision }))
  const name = `dripgate_requests_total{code="2xx",decision="${decision}",route="orders"}`
  expect((await scrape(setup.metrics)).get(name)).toBe(1)
})

it.each([
  [0, '4xx'],
  [99, '4xx'],
  [101, '1xx'],
  [308, '3xx'],
  [499, '4xx'],
  [599, '5xx'],
  [999, '5xx'],
])('files the status %i under %s', async (status, code) => {
  const setup = setUp()
  recorderOf(setup).record(exchange({ status }))
  const name = `dripgate_requests_total{code="${code}",decision="allowed",route="orders"}`
  expect((await scrape(setup.metrics)).get(name)).toBe(1)
})

it('puts durations into cumulative buckets whose bounds are inclusive', async () => {
  const setup = setUp()
  const recorder = recorderOf(setup)
  for (const durationMs of [0.4, 0.5, 0.6, 10_000, 10_001]) {
    recorder.record(exchange({ durationMs, upstreamMs: -1 }))
  }
  const series = await scrape(setup.metrics)
  const bucket = (le: string) =>
    series.get(`dripgate_request_duration_seconds_bucket{le="${le}",route="orders"}`)
  expect(['0.0005', '0.001', '5', '10', '+Inf'].map(bucket)).toEqual([2, 3, 3, 4, 5])
  expect(series.get('dripgate_request_duration_seconds_count{route="orders"}')).toBe(5)
  expect(series.get('dripgate_request_duration_seconds_sum{route="orders"}')).toBeCloseTo(20.0025, 6)
  expect([...series.keys()].some((name) => name.startsWith('dripgate_upstream_duration_seconds'))).toBe(false)
})

it('takes the time at the upstream out of the overhead', async () => {
  const setup = setUp()
  recorderOf(setup).record(exchange({ durationMs: 250, upstreamMs: 249.8 }))
  const series = await scrape(setup.metrics)
  expect(series.get('dripgate_upstream_duration_seconds_sum{upstream="shop"}')).toBeCloseTo(0.2498, 9)
  expect(series.get('dripgate_overhead_seconds_sum{}')).toBeCloseTo(0.0002, 9)
  expect(series.get('dripgate_overhead_seconds_bucket{le="0.0001"}')).toBe(0)
  expect(series.get('dripgate_overhead_seconds_bucket{le="0.00025"}')).toBe(1)
})

it('is not spoiled by a duration that makes no sense', async () => {
  const setup = setUp()
  const recorder = recorderOf(setup)
  recorder.record(exchange({ durationMs: Number.NaN, upstreamMs: Number.NaN }))
  recorder.record(exchange({ durationMs: -5, upstreamMs: 1 }))
  const series = await scrape(setup.metrics)
  expect(series.get('dripgate_request_duration_seconds_sum{route="orders"}')).toBe(0)
  expect(series.get('dripgate_overhead_seconds_count{}')).toBe(2)
})

it('sums over threads, which write without a message to anybody', async () => {
  const setup = setUp(3)
  const { counters, names } = setup
  const code = `
    const { workerData } = require('node:worker_threads')
    import(workerData.module).then(({ createRecorder }) => {
      const recorder = createRecorder(workerData)
      for (let i = 0; i < 1000; i++) recorder.record(workerData.exchange)
    })`
  const module = new URL('../../src/telemetry/recorder.ts', import.meta.url).href
  const ends = [0, 1, 2].map((threadIndex) => {
    const workerData = { module, counters, threadIndex, names: names.all(), exchange: exchange() }
    const worker = new Worker(code, { eval: true, workerData })
    return new Promise((resolve, reject) => worker.on('error', reject).on('exit', resolve))
  })
  expect(await Promise.all(ends)).toEqual([0, 0, 0])
  const series = await scrape(setup.metrics)
  expect(series.get('dripgate_requests_total{code="2xx",decision="allowed",route="orders"}')).toBe(3000)
  expect(series.get('dripgate_sent_bytes_total{route="orders"}')).toBe(300_000)
  expect(series.get('dripgate_received_bytes_total{route="orders"}')).toBe(30_000)
})

it('goes on counting where a thread died, but forgets its connections', async () => {
  const setup = setUp(2)
  const first = recorderOf(setup)
  first.record(exchange({ aborted: true }))
  first.addConnections(1)
  first.addConnections(1)
  first.addConnections(-1)
  recorderOf(setup, 1).addConnections(1)
  expect((await scrape(setup.metrics)).get('dripgate_connections_open{}')).toBe(2)
  recorderOf(setup).record(exchange({ aborted: true }))
  const series = await scrape(setup.metrics)
  expect(series.get('dripgate_connections_open{}')).toBe(1)
  expect(series.get('dripgate_requests_aborted_total{route="orders"}')).toBe(2)
})

it('keeps counts under the name of their route when a reload moves and removes routes', async () => {
  const setup = setUp()
  const recorder = recorderOf(setup)
  recorder.record(exchange())
  recorder.setNames(setup.names.add({ routes: ['new', 'orders2'], upstreams: [] }))
  recorder.record(exchange({ routeId: 0, routeName: 'new' }))
  recorder.record(exchange({ routeName: 'orders' }))
  const series = await scrape(setup.metrics)
  expect(series.get('dripgate_requests_total{code="2xx",decision="allowed",route="orders"}')).toBe(2)
  expect(series.get('dripgate_requests_total{code="2xx",decision="allowed",route="new"}')).toBe(1)
})

it('has a bounded number of series, however many names reloads bring', async () => {
  const setup = setUp()
  for (let round = 0; round < NAMES_MAX + 5; round++) {
    setup.names.add({ routes: [`route-${round}`], upstreams: [`upstream-${round}`] })
  }
  const recorder = recorderOf(setup)
  for (let round = 0; round < NAMES_MAX + 5; round++) {
    recorder.record(exchange({ routeName: `route-${round}`, upstreamName: `upstream-${round}` }))
  }
  recorder.record(exchange({ routeName: 'never heard of' }))
  const series = await scrape(setup.metrics)
  const routes = [...series.keys()].filter((name) => name.startsWith('dripgate_requests_total'))
  // `orders` has a series but no request; `other` has what was too much.
  expect(routes).toHaveLength(NAMES_MAX)
  expect(series.get('dripgate_requests_total{code="2xx",decision="allowed",route="other"}')).toBe(7)
  expect(series.get('dripgate_upstream_duration_seconds_count{upstream="other"}')).toBe(6)
})

it('merges a route called none or other with the series of that name', async () => {
  const setup = setUp()
  setup.names.add({ routes: ['none', 'other'], upstreams: ['other'] })
  const recorder = recorderOf(setup)
  recorder.record(exchange({ routeName: 'none' }))
  recorder.record(exchange({ routeName: 'other' }))
  const series = await scrape(setup.metrics)
  expect(series.get('dripgate_requests_total{code="2xx",decision="allowed",route="none"}')).toBe(1)
  expect(series.get('dripgate_requests_total{code="2xx",decision="allowed",route="other"}')).toBe(1)
})

it('has labels from closed sets only: no token, key, path or address', async () => {
  const setup = setUp()
  const recorder = recorderOf(setup)
  recorder.record(exchange({ path: '/planted/path', requestId: 'planted-request', method: 'PLANTED' }))
  recorder.record(exchange({ routeName: 'none', decision: 'rejected', status: 404, path: '/planted' }))
  const { body } = await setup.metrics.render()
  expect(body).not.toMatch(/planted|192\.0\.2|k_/i)
  const labels = new Map<string, Set<string>>()
  for (const line of body.split('\n').filter((line) => line.startsWith('dripgate_'))) {
    for (const [, name = '', value = ''] of line.matchAll(/([a-z]+)="([^"]*)"/g)) {
      labels.set(name, (labels.get(name) ?? new Set()).add(value))
    }
  }
  expect([...labels.keys()].sort()).toEqual([
    'code',
    'decision',
    'le',
    'mode',
    'outcome',
    'reason',
    'route',
    'upstream',
    'version',
    'where',
  ])
  expect([...(labels.get('route') ?? [])].sort()).toEqual(['none', 'orders'])
})

it('tells of reloads, restarts, the store and the admin listener', async () => {
  const { metrics } = setUp()
  expect((await scrape(metrics)).get('dripgate_config_last_reload_successful{}')).toBe(1)
  metrics.countReload(false)
  metrics.countThreadRestart()
  metrics.countAdminRequest(204)
  metrics.countAdminRequest(460)
  metrics.setStoreUp(false)
  metrics.setFlushSeconds(0.25)
  const series = await scrape(metrics)
  expect(series.get('dripgate_config_last_reload_successful{}')).toBe(0)
  expect(series.get('dripgate_config_last_reload_timestamp_seconds{}')).toBe(5)
  expect(series.get('dripgate_thread_restarts_total{}')).toBe(1)
  expect(series.get('dripgate_admin_requests_total{code="2xx"}')).toBe(1)
  expect(series.get('dripgate_admin_requests_total{code="4xx"}')).toBe(1)
  expect(series.get('dripgate_store_up{}')).toBe(0)
  expect(series.get('dripgate_store_flush_duration_seconds{}')).toBe(0.25)
  expect(series.get('dripgate_build_info{version="1.2.3"}')).toBe(1)
  expect([...series.keys()].some((name) => name.startsWith('process_cpu_seconds_total'))).toBe(true)
})

it.each([
  [undefined, TEXT],
  ['*/*', TEXT],
  ['text/plain', TEXT],
  ['application/openmetrics-text; version=1.0.0', OPEN_METRICS],
  ['application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2', OPEN_METRICS],
  ['application/openmetrics-text;q=0.2,text/plain;q=0.9', TEXT],
  ['application/openmetrics-text;q=0', TEXT],
])('answers Accept: %s with %s', async (accept, contentType) => {
  const setup = setUp()
  expect((await setup.metrics.render(accept)).contentType).toBe(contentType)
})

it('writes OpenMetrics without changing what the text format says', async () => {
  const setup = setUp()
  recorderOf(setup).record(exchange())
  const before = [...(await scrape(setup.metrics)).keys()].filter((name) => name.startsWith('dripgate_'))
  for (let round = 0; round < 2; round++) {
    const { body } = await setup.metrics.render('application/openmetrics-text')
    expect(body).toMatch(/\n# TYPE dripgate_requests counter\ndripgate_requests_total\{route="orders"/)
    expect(body).toMatch(/\ndripgate_thread_restarts_total 0\n/)
    expect(body).not.toContain('_total_total')
    expect(body.endsWith('\n# EOF\n')).toBe(true)
  }
  const after = [...(await scrape(setup.metrics)).keys()].filter((name) => name.startsWith('dripgate_'))
  expect(after).toEqual(before)
})

it('refuses a region that is not there', () => {
  const counters = createCounters(1)
  for (const threadIndex of [-1, 1, 0.5]) {
    expect(() => createRecorder({ counters, threadIndex, names: NONE })).toThrow(RangeError)
  }
})
