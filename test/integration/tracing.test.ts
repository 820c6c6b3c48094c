import { readFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isSampled, isTraceparent, toTraceId } from '../../src/domain/traceparent.ts'
import { type Echo, type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts'
import { type RunningGateway, startGateway } from '../support/gateway.ts'
import { until } from '../support/redis.ts'
import { send } from '../support/rpc-client.ts'

/** W3C Trace Context over real sockets: who hears of which trace. */

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const SOUND = `00-${TRACE}-00f067aa0ba902b7-01`

interface Sent {
  readonly status: number
  /** As the upstream got them. */
  readonly traceparents: readonly string[]
  readonly tracestates: readonly string[]
}

let upstream: EchoUpstream
beforeAll(async () => {
  upstream = await startEchoUpstream()
})
afterAll(() => upstream.close())

function start(engine: string, tracing?: object): Promise<RunningGateway> {
  return startGateway({
    config: {
      gateway: { workers: 1, engine, access_log: { output: './access.log' }, ...(tracing && { tracing }) },
      upstreams: { echo: { targets: [upstream.url] } },
      routes: [
        { name: 'open', match: { path: '/open' }, upstream: 'echo' },
        { name: 'closed', match: { path: '/closed' }, keyspace: 'ks_none', upstream: 'echo' },
        {
          name: 'bare',
          match: { path: '/bare' },
          upstream: 'echo',
          headers: { request: { remove: ['traceparent', 'tracestate'] } },
        },
      ],
    },
  })
}

async function call(
  gateway: RunningGateway,
  target: string,
  headers: Record<string, string | string[]> = {},
): Promise<Sent> {
  const { status, text } = await send(gateway.gatewayUrl, target, { method: 'GET', headers })
  const { rawHeaders = [] } = JSON.parse(text) as Partial<Echo>
  const valuesOf = (name: string) =>
    rawHeaders.filter((_, index) => index % 2 === 1 && rawHeaders[index - 1]?.toLowerCase() === name)
  return { status, traceparents: valuesOf('traceparent'), tracestates: valuesOf('tracestate') }
}

async function readLog(gateway: RunningGateway, requestId: string): Promise<Record<string, unknown>> {
  const find = () =>
    readFileSync(path.join(gateway.dir, 'access.log'), 'utf8')
      .split('\n')
      .find((line) => line.includes(`"${requestId}"`))
  await until(() => find() !== undefined)
  return JSON.parse(find() ?? '{}')
}

describe.each(['raw', 'node'])('with the engine %s', (engine) => {
  let gateway: RunningGateway
  beforeAll(async () => {
    gateway = await start(engine)
  })
  afterAll(() => gateway.stop())

  it('passes on a trace as it came, with its state', async () => {
    const headers = { traceparent: SOUND, tracestate: ['a=1,b=2', 'c=3'] }
    const { traceparents, tracestates } = await call(gateway, '/open', headers)
    expect(traceparents).toEqual([SOUND])
    expect(tracestates.join(',')).toBe('a=1,b=2,c=3')
  })

  it('makes a new sampled trace for each request that has none', async () => {
    const made = [await call(gateway, '/open'), await call(gateway, '/open')].map(
      ({ traceparents }) => traceparents,
    )
    for (const traceparents of made) {
      expect(traceparents.length).toBe(1)
      expect(isTraceparent(traceparents[0] ?? '')).toBe(true)
      expect(isSampled(traceparents[0] ?? '')).toBe(true)
    }
    expect(made[0]).not.toEqual(made[1])
  })

  it.each([
    ['a malformed one', { traceparent: SOUND.toUpperCase() }],
    ['a version that is none', { traceparent: SOUND.replace('00-', 'ff-') }],
    ['an empty one', { traceparent: '' }],
    ['two of them', { traceparent: [SOUND, SOUND] }],
  ])('replaces %s, and drops its state', async (_, fields) => {
    const { traceparents, tracestates } = await call(gateway, '/open', { ...fields, tracestate: 'a=1' })
    expect(traceparents.length).toBe(1)
    expect(isTraceparent(traceparents[0] ?? '')).toBe(true)
    expect(toTraceId(traceparents[0] ?? '')).not.toBe(TRACE)
    expect(tracestates).toEqual([])
  })

  it('sends none where the route removes it', async () => {
    expect(await call(gateway, '/bare')).toMatchObject({ status: 200, traceparents: [] })
    const headers = { traceparent: SOUND, tracestate: 'a=1' }
    expect(await call(gateway, '/bare', headers)).toMatchObject({ traceparents: [], tracestates: [] })
  })

  it('writes the trace id into the access log, also of refused requests', async () => {
    const { traceparents } = await call(gateway, '/open', { 'x-request-id': 'made' })
    expect(await readLog(gateway, 'made')).toMatchObject({ trace_id: toTraceId(traceparents[0] ?? '') })
    const refused = { 'x-request-id': 'refused', traceparent: SOUND }
    expect((await call(gateway, '/closed', refused)).status).toBe(401)
    expect(await readLog(gateway, 'refused')).toMatchObject({ trace_id: TRACE })
    await call(gateway, '/closed', { 'x-request-id': 'untraced' })
    expect(await readLog(gateway, 'untraced')).toMatchObject({ trace_id: '' })
  })

  it('shows traces as exemplars to those who ask for OpenMetrics, and to nobody else', async () => {
    await call(gateway, '/open', { traceparent: SOUND })
    const read = async (accept: string) =>
      (await send(gateway.adminUrl, '/metrics', { method: 'GET', headers: { accept } })).text
    const openMetrics = await read('application/openmetrics-text')
    const exemplars = [
      ...openMetrics.matchAll(
        /^(dripgate_\w+)_bucket\{(?:\w+="\w+",)?le="([^"]+)"\} \d+ # \{trace_id="([0-9a-f]{32})"\} (\S+) (\S+)$/gm,
      ),
    ]
    expect(new Set(exemplars.map(([, name]) => name))).toEqual(
      new Set([
        'dripgate_request_duration_seconds',
        'dripgate_upstream_duration_seconds',
        'dripgate_overhead_seconds',
      ]),
    )
    for (const [, , bound, , seconds, time] of exemplars) {
      expect(Number(seconds)).toBeLessThanOrEqual(bound === '+Inf' ? Number.POSITIVE_INFINITY : Number(bound))
      expect(Math.abs(Date.now() / 1000 - Number(time))).toBeLessThan(120)
    }
    expect(openMetrics.match(/trace_id/g)?.length).toBe(exemplars.length)
    expect(await read('text/plain')).not.toContain('trace_id')
  })
})

it('makes no trace where it is told not to, and still passes sound ones on', async () => {
  await using gateway = await start('raw', { create: false })
  expect((await call(gateway, '/open')).traceparents).toEqual([])
  expect((await call(gateway, '/open', { traceparent: 'x', tracestate: 'a=1' })).tracestates).toEqual([])
  expect((await call(gateway, '/open', { traceparent: SOUND })).traceparents).toEqual([SOUND])
})

it('marks traces as not sampled by the wanted share, and then keeps no exemplar', async () => {
  await using gateway = await start('raw', { sample_ratio: 0 })
  expect((await call(gateway, '/open')).traceparents[0]).toMatch(/-00$/)
  const headers = { accept: 'application/openmetrics-text' }
  const { text } = await send(gateway.adminUrl, '/metrics', { method: 'GET', headers })
  expect(text).toContain('dripgate_overhead_seconds_count 1')
  expect(text).not.toContain('trace_id')
})
