import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { CODES, DECISIONS } from '../../src/telemetry/counters.ts'
import { type Exposition, parseExposition } from '../support/exposition.ts'
import { type RunningGateway, startGateway } from '../support/gateway.ts'
import { listQueries, readRules } from '../support/monitoring-files.ts'
import { parsePromQl } from '../support/promql.ts'
import { describePromtool, runPromtool } from '../support/promtool.ts'
import { describeRedis, startRedis, until } from '../support/redis.ts'
import { createKey, startNodes } from '../support/redis-gateways.ts'

/*
 * Whatever dashboards and rules ask for is looked for in the metrics of a gateway that has done a bit
 * of everything. Where a test below fails for a metric that you have just added: make the gateway here
 * do what it counts, so that it has a sample.
 */

/** Added by Prometheus itself. */
const TARGET_LABELS = ['job', 'instance']
/** Values that do not happen in the few requests of this test, of labels with a closed set. */
const CLOSED_SETS: Readonly<Record<string, readonly string[]>> = {
  decision: DECISIONS,
  code: CODES,
  mode: ['deny', 'allow', 'local'],
}
const queries = listQueries()
/** Metrics and their labels. */
const documented = new Map(
  [
    ...readFileSync(path.resolve(import.meta.dirname, '../../docs/monitoring.md'), 'utf8').matchAll(
      /^\| `(dripgate_\w+)` \| \w+ \| ([^|]*) \|/gm,
    ),
  ].map(([, name = '', labels = '']) => [name, [...labels.matchAll(/\w+/g)].map(([label]) => label)]),
)

it('finds the expressions of the dashboards and of two rule files', () => {
  expect(queries.length).toBeGreaterThan(80)
})

it.each(queries.map(({ where, expression }) => [where, expression]))('%s: %s is PromQL', (_, expression) => {
  expect(parsePromQl(expression).selectors.length).toBeGreaterThan(0)
})

describe('with the embedded store', () => {
  let exposition: Exposition
  let text: string
  beforeAll(async () => {
    await using upstream = await startUpstream()
    await using gateway = await startGateway({ config: toConfig(upstream) })
    await callEverything(gateway)
    text = await scrape(gateway)
    exposition = parseExposition(text, await scrapeTls())
  })
  testNames(() => exposition)

  describePromtool('promtool', () => {
    it('finds nothing wrong with our metrics', () => {
      const { output } = runPromtool(['check', 'metrics'], text)
      // Three of the runtime's gauges have names that it dislikes.
      const complaints = output.split('\n').filter((line) => line !== '' && !line.startsWith('nodejs_'))
      expect(complaints).toEqual([])
    })
  })
})

describeRedis('with Redis', () => {
  let exposition: Exposition
  beforeAll(async () => {
    await using redis = await startRedis()
    await using upstream = await startUpstream()
    const [node] = await startNodes(1, { redis: { url: redis.url }, upstream: upstream.url, workers: 1 })
    if (node === undefined) throw new Error('no node')
    await using gateway = node
    const { token } = await createKey(gateway, [4, 1, 60_000])
    const headers = { authorization: `Bearer ${token}` }
    const call = () => fetch(`${gateway.gatewayUrl}/allow`, { method: 'POST', body: 'x', headers })
    await expectBreak(fetch(`${gateway.gatewayUrl}/allow/broken`, { headers }))
    for (let n = 0; n < 4; n++) await call()
    await callScripts(gateway)
    await redis.kill()
    await until(async () => (await call()).headers.get('x-dripgate-degraded') === 'allow')
    exposition = parseExposition(await scrape(gateway), await scrapeTls())
  })
  testNames(() => exposition)
})

function testNames(exposition: () => Exposition): void {
  it('has every metric and label that dashboards and rules ask for', () => {
    const problems = queries.flatMap(({ where, expression, labelTexts }) =>
      listUnknownNames(exposition(), expression, labelTexts).map((problem) => `${where}: ${problem}`),
    )
    expect(problems).toEqual([])
  })

  it('has the metrics and labels that docs/monitoring.md lists', () => {
    const own = [...exposition().families.keys()].filter((name) => name.startsWith('dripgate_'))
    expect(own.toSorted()).toEqual([...documented.keys()].toSorted())
    for (const name of own) {
      const { samples } = exposition()
      const labels = [...(samples.get(name) ?? samples.get(`${name}_count`) ?? new Map()).keys()]
      const hint = `labels of ${name}: make scripts/generated/metrics-table.ts count one, and npm run generate`
      expect(labels.toSorted(), hint).toEqual(documented.get(name)?.toSorted())
    }
  })
}

function listUnknownNames({ samples }: Exposition, expression: string, texts: readonly string[]): string[] {
  const { selectors, grouping } = parsePromQl(expression)
  const problems: string[] = []
  const labels = new Set(TARGET_LABELS)
  for (const { metric, matchers } of selectors) {
    const known = metric === 'up' ? new Map() : (samples.get(metric) ?? findRecorded(metric))
    if (known === undefined) return [`there is no metric ${metric}`]
    for (const label of known.keys()) labels.add(label)
    for (const [label, values] of matchers) {
      if (TARGET_LABELS.includes(label)) continue
      const seen = known.get(label)
      if (seen === undefined) problems.push(`${metric} has no label ${label}`)
      const isValue = (value: string) =>
        value.startsWith('$') || seen?.has(value) === true || CLOSED_SETS[label]?.includes(value) === true
      for (const value of values.filter((value) => !isValue(value))) {
        problems.push(`${label} of ${metric} is never ${value}`)
      }
    }
  }
  const inTexts = texts.flatMap((text) => [...text.matchAll(/\{\{\s*(?:\$labels\.)?([a-z_]\w*)\s*\}\}/g)])
  for (const label of [...grouping, ...inTexts.map(([, label = '']) => label)]) {
    if (!labels.has(label)) problems.push(`nothing in it has a label ${label}`)
  }
  return problems
}

/** A recorded series is named `LABELS:METRIC:OPERATION`, its labels joined by `_`. */
function findRecorded(metric: string): ReadonlyMap<string, ReadonlySet<string>> | undefined {
  if (!readRules().some(({ record }) => record === metric)) return undefined
  return new Map((metric.split(':')[0] ?? '').split('_').map((label) => [label, new Set()]))
}

function toConfig(upstream: { readonly url: string }): Record<string, unknown> {
  return {
    gateway: { workers: 1 },
    upstreams: {
      echo: { targets: [upstream.url], health_check: { path: '/' } },
      dead: { targets: ['http://127.0.0.1:9'] },
    },
    keyspaces: [
      {
        ksid: 'ks_metrics',
        name: 'metrics',
        keys_prefix: 'm_',
        ratelimit: { limit: 2, refill_rate: 1, refill_interval: '1h' },
      },
    ],
    routes: [
      { name: 'limited', match: { path: '/limited' }, keyspace: 'ks_metrics', upstream: 'echo' },
      { name: 'open', match: { path: '/open' }, upstream: 'echo' },
      { name: 'cached', match: { path: '/cached' }, upstream: 'echo', cache: { ttl: '1m' } },
      { name: 'dead', match: { path: '/dead' }, upstream: 'dead' },
    ],
  }
}

/** Something of each kind, and one answer that is broken off. */
async function callEverything(gateway: RunningGateway): Promise<void> {
  const { body } = await gateway.rpc('keys.create', { ksid: 'ks_metrics' })
  const { token } = body as { token: string }
  const call = (path: string, more: RequestInit = {}) => fetch(gateway.gatewayUrl + path, more)
  for (let n = 0; n < 3; n++) await call('/limited', { headers: { authorization: `Bearer ${token}` } })
  await call('/limited')
  await call('/limited', { headers: { authorization: 'Bearer nobody' } })
  await call('/open', { method: 'POST', body: 'x' })
  await call('/dead')
  await call('/nowhere')
  for (let n = 0; n < 2; n++) await call('/cached')
  await callScripts(gateway)
  await expectBreak(call('/open/broken'))
}

async function callScripts(gateway: RunningGateway): Promise<void> {
  const { body } = await gateway.rpc('serviceKeys.create', { roles: ['SCRIPT'] })
  const { token } = body as { token: string }
  const call = (name: string, params: object) =>
    fetch(`${gateway.adminUrl}/script/${name}`, {
      method: 'POST',
      headers: { 'x-api-key': token, 'content-type': 'application/json' },
      body: JSON.stringify(params),
    })
  await call('set-redis-keys', { key: 'user:1', value: 'x' })
  await call('invalidate-cache', { key: 'user:1' })
}

async function expectBreak(answer: Promise<Response>): Promise<void> {
  await expect(answer.then((begun) => begun.text())).rejects.toThrow()
}

/** Answers 200, but breaks off answers to `…/broken`. */
async function startUpstream(): Promise<{ readonly url: string } & AsyncDisposable> {
  const server = createServer((request, response) => {
    if (!request.url?.endsWith('/broken')) return void response.end('ok')
    response.writeHead(200, { 'content-length': 100 }).write('ok', () => response.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

async function scrape(gateway: RunningGateway): Promise<string> {
  const read = async () => (await fetch(`${gateway.adminUrl}/metrics`)).text()
  // The first scrape is a request to the admin listener that the second one has counted.
  await read()
  return read()
}

/** What only a gateway with certificates has to tell. */
async function scrapeTls(): Promise<string> {
  const folder = path.resolve(import.meta.dirname, '../support/tls')
  const tls = { cert: path.join(folder, 'server.pem'), key: path.join(folder, 'server-key.pem') }
  await using gateway = await startGateway({ config: { gateway: { workers: 1, tls } } })
  return await scrape(gateway)
}
