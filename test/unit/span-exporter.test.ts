import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { createSpanIds } from '../../src/app/traceparents.ts'
import { withParentId } from '../../src/domain/traceparent.ts'
import type { FinishedExchange } from '../../src/ports/runtime.ts'
import { openSpanExporter, type SpanExporter } from '../../src/telemetry/span-exporter.ts'
import { systemRandom } from '../../src/telemetry/system-clock.ts'
import { type Collector, startCollector } from '../support/collector.ts'
import { createFakeLogger } from '../support/fakes.ts'
import { until } from '../support/redis.ts'
import { findClosedPort } from '../support/upstreams.ts'

const EXCHANGE: FinishedExchange = {
  routeId: 0,
  routeName: 'open',
  decision: 'open',
  status: 200,
  method: 'GET',
  path: '/',
  startMs: 1_700_000_000_123,
  durationMs: 1.5,
  upstreamName: '',
  upstreamId: -1,
  upstreamMs: -1,
  bytesIn: 0,
  bytesOut: 0,
  requestId: 'r',
  traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
  kid: '',
  remoteAddress: '127.0.0.1',
  aborted: false,
  describeSpans: () => ({
    isTraceOfClient: true,
    upstreamSpanId: '',
    upstreamDelayMs: 0,
    upstreamStatus: 0,
    targetHost: '',
    scheme: 'http',
    httpVersion: '1.1',
    host: '[::1]:8080',
  }),
}

let collector: Collector
let exporter: SpanExporter | undefined
beforeAll(async () => {
  collector = await startCollector()
})
afterAll(() => collector.close())
afterEach(async () => {
  collector.behaviour = 'take'
  await exporter?.close()
  collector.server.seen.length = 0
})

function open({ endpoint = `${collector.server.url}/v1/traces`, timeoutMs = 10_000 } = {}) {
  const counts = { sent: 0, dropped: 0 }
  const logger = createFakeLogger()
  const opened = openSpanExporter({
    endpoint,
    headers: {},
    timeoutMs,
    version: '1.2.3',
    createSpanId: createSpanIds(systemRandom),
    onSpans: (outcome, spans) => {
      counts[outcome] += spans
    },
    logger,
  })
  exporter = opened
  const exportMany = (count: number, exchange: Partial<FinishedExchange> = {}) => {
    for (let n = 0; n < count; n++) opened.export({ ...EXCHANGE, ...exchange })
  }
  return { opened, counts, logger, exportMany }
}

it('sends full batches at once, one after the other, and the rest within a second', async () => {
  const { counts, exportMany } = open()
  exportMany(1300)
  await until(() => counts.sent === 1300)
  expect(collector.batches().map((batch) => batch.length)).toEqual([512, 512, 276])
  expect(new Set(collector.spans().map(({ spanId }) => spanId)).size).toBe(1300)
  expect(counts.dropped).toBe(0)
  expect(collector.server.connections).toBe(1)
})

it('keeps 4,096 spans for a slow collector, drops what comes then, and says so once', async () => {
  collector.behaviour = 'hang'
  const { counts, logger, exportMany } = open()
  exportMany(512)
  await until(() => collector.server.seen.length === 1)
  exportMany(4096)
  expect(counts.dropped).toBe(0)
  exportMany(100)
  expect(counts).toEqual({ sent: 0, dropped: 100 })
  expect(logger.lines.map(({ level, message }) => [level, message])).toEqual([['warn', 'spans were dropped']])
})

it('gives up a second after it is told to close, and counts what is lost', async () => {
  collector.behaviour = 'hang'
  const { opened, counts, exportMany } = open()
  exportMany(1000)
  const startedMs = performance.now()
  await opened.close()
  expect(performance.now() - startedMs).toBeLessThan(5000)
  expect(counts).toEqual({ sent: 0, dropped: 1000 })
  exportMany(1)
  expect(counts.dropped).toBe(1001)
})

it('sends every batch that waits when it is closed', async () => {
  const { opened, counts, exportMany } = open()
  exportMany(2000)
  await opened.close()
  expect(counts).toEqual({ sent: 2000, dropped: 0 })
  expect(collector.spans().length).toBe(2000)
})

it('drops what a collector that is not there cannot take', async () => {
  const { counts, exportMany } = open({ endpoint: `http://127.0.0.1:${await findClosedPort()}/v1/traces` })
  exportMany(10)
  await until(() => counts.dropped === 10)
  expect(counts.sent).toBe(0)
})

it('loses nothing when the collector closes a kept connection just as a batch comes', async () => {
  const { counts, exportMany } = open()
  exportMany(512)
  await until(() => counts.sent === 512)
  collector.behaviour = 'cut'
  exportMany(512)
  await until(() => counts.sent + counts.dropped === 1024)
  expect(counts.dropped).toBe(0)
  expect(collector.server.seen.length).toBe(3)
})

it('exports nothing of what is not sampled, has no trace or was never read', async () => {
  const { opened, counts, exportMany } = open()
  exportMany(1, { traceparent: (EXCHANGE.traceparent ?? '').replace(/01$/, '02') })
  exportMany(1, { traceparent: '' })
  opened.export({ ...EXCHANGE, describeSpans: () => ({ ...EXCHANGE.describeSpans?.(), host: '' }) as never })
  await opened.close()
  expect(counts).toEqual({ sent: 1, dropped: 0 })
})

it('writes times to the microsecond, addresses bare, and unknown methods as such', async () => {
  const { opened, exportMany } = open()
  exportMany(1, { method: 'BREW', path: `/${'a'.repeat(5000)}` })
  await opened.close()
  const [span] = collector.spans()
  expect(span).toMatchObject({
    name: 'HTTP open',
    startTimeUnixNano: '1700000000123000000',
    endTimeUnixNano: '1700000000124500000',
    attributes: {
      'http.request.method': '_OTHER',
      'http.request.method_original': 'BREW',
      'server.address': '::1',
      'server.port': '8080',
    },
  })
  expect(span?.attributes['url.path']?.length).toBe(2048)
})

it.each([
  ['01', '01'],
  ['00', '00'],
  ['03', '03'],
  ['ff', '03'],
])('passes on of the flags %s those that are defined: %s', (flags, passed) => {
  const trace = `cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-${flags}-more`
  expect(withParentId(trace, '1234567890abcdef')).toBe(
    `00-4bf92f3577b34da6a3ce929d0e0e4736-1234567890abcdef-${passed}`,
  )
})
