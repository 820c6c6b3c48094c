import { readFileSync } from 'node:fs'
import { createCheckKey } from '../../src/app/check-key.ts'
import type { Limit } from '../../src/domain/bucket.ts'
import type { Decision } from '../../src/domain/decision.ts'
import type { MaybePromise } from '../../src/ports/stores.ts'
import { toScript } from '../../src/stores/redis/connection.ts'
import type { RedisRecord } from '../../src/stores/redis/records.ts'
import { startEchoUpstream } from '../support/echo-upstream.ts'
import { type RunningGateway, startGateway } from '../support/gateway.ts'
import { openLoad } from '../support/load.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { openTestNode, recordOf, type TestNode, uniquePrefix } from '../support/redis-store.ts'
import { percentile, row } from './figures.ts'

/** Checks over one Redis server of this machine: `npm run bench -- redis`. */

const SECONDS = 1.5
/** The best one counts: what else runs on the machine only ever makes things worse. */
const ROUNDS = 4
/** Never empty, and never so soon full again that its bucket vanishes between two checks. */
const ROOMY: Limit = { capacity: 1_000_000_000, rate: 1, intervalMs: 1_000 }

interface Way {
  readonly name: string
  readonly keys: number
  readonly inFlight: number
  readonly limit: Limit
  readonly mayLease: boolean
}

const WAYS: readonly Way[] = [
  { name: 'plain: one check after the other', keys: 10_000, inFlight: 1, limit: ROOMY, mayLease: false },
  { name: 'batched: 10,000 keys, 64 in flight', keys: 10_000, inFlight: 64, limit: ROOMY, mayLease: false },
  { name: 'batched: 10,000 keys, 256 in flight', keys: 10_000, inFlight: 256, limit: ROOMY, mayLease: false },
  { name: 'batched: 10 hot keys, 64 in flight', keys: 10, inFlight: 64, limit: ROOMY, mayLease: false },
  {
    name: 'leased: 10 hot keys, 64 in flight',
    keys: 10,
    inFlight: 64,
    limit: { ...ROOMY, intervalMs: 60 },
    mayLease: true,
  },
  {
    name: 'blocked: 10 keys of 200 + 100 per 100 ms',
    keys: 10,
    inFlight: 64,
    limit: { capacity: 200, rate: 100, intervalMs: 100 },
    mayLease: true,
  },
]

export async function benchRedis(): Promise<void> {
  await using server = await startRedis()
  await benchFloor(server)
  for (const way of WAYS) {
    // A server that shares the machine with other work must not turn waits into failures.
    await using node = await openTestNode({ url: server.url, prefix: uniquePrefix(), timeout: 5_000 })
    await benchWay(way, node, server)
  }
  await benchGateways(server)
}

async function benchWay(way: Way, node: TestNode, server: RedisServer): Promise<void> {
  const records = Array.from({ length: way.keys }, () => recordOf(way.limit, { mayLease: way.mayLease }))
  const byKid = new Map(records.map((record) => [record.kid, record]))
  const check = createCheckKey<RedisRecord>({
    records: { find: (kid) => byKid.get(kid), forget: () => {} },
    buckets: node.checker.buckets,
    clock: { bucketMs: () => 0, wallMs: () => Date.now() },
  })
  const checkNext = (turn: number) => check(records[turn % way.keys]?.kid ?? '', ACCEPTS, 1)
  let best: Round | undefined
  for (let round = 0; round < ROUNDS; round++) {
    const found = await runRound(way, checkNext, node, server)
    if (best === undefined || found.nodeUs + found.redisUs < best.nodeUs + best.redisUs) best = found
  }
  if (best === undefined) return
  const { perSecond, allowedPercent, nodeUs, redisUs, waits, callsPerCheck } = best
  row(
    way.name,
    [
      `${Math.round(perSecond).toLocaleString('en')} checks/s`,
      `${Math.round(allowedPercent)} % allowed`,
      `Node ${nodeUs.toFixed(2)} µs`,
      `Redis ${redisUs.toFixed(2)} µs`,
      `p50 ${percentile(waits, 0.5).toFixed(2)} ms`,
      `p99 ${percentile(waits, 0.99).toFixed(2)} ms`,
      `${callsPerCheck.toFixed(4)} calls/check`,
    ].join(', '),
  )
}

/** What no script can be quicker than: read and write each key, 64 of 10,000 in one call, nothing else. */
async function benchFloor(server: RedisServer): Promise<void> {
  await using node = await openTestNode({ url: server.url, prefix: uniquePrefix(), timeout: 5_000 })
  const { connection } = node.checker
  const script = toScript(`
    local reply = { redis.call('TIME')[1] }
    for i = 1, #KEYS do
      redis.call('GET', KEYS[i])
      redis.call('SET', KEYS[i], '1 999999 1700000000000 1000000 100000 1000 0', 'PX', 100000)
      reply[3 * i - 1], reply[3 * i], reply[3 * i + 1] = 1, 999999, 1700000000000
    end
    return reply`)
  const keys = Array.from({ length: 10_000 }, (_, index) => `floor:${index}`)
  let best: readonly [nodeUs: number, redisUs: number] = [Number.POSITIVE_INFINITY, 0]
  for (let round = 0; round < ROUNDS; round++) {
    const redisBefore = await redisCpuUs(server)
    const nodeBefore = process.cpuUsage()
    const end = performance.now() + SECONDS * 1_000
    let checks = 0
    for (; performance.now() < end; checks += 64) {
      const start = checks % (keys.length - 64)
      await connection.run(5_000, script, keys.slice(start, start + 64), Array(128).fill('1 1 1 0 0 0 0'))
    }
    const { user, system } = process.cpuUsage(nodeBefore)
    const redisUs = (await redisCpuUs(server)) - redisBefore
    if (user + system + redisUs < (best[0] + best[1]) * checks)
      best = [(user + system) / checks, redisUs / checks]
  }
  row(
    'for comparison: GET and SET of 64 keys a call',
    `Node ${best[0].toFixed(2)} µs, Redis ${best[1].toFixed(2)} µs a key`,
  )
}

const ACCEPTS = new Set(['ks_test'])

interface Round {
  readonly perSecond: number
  readonly allowedPercent: number
  readonly nodeUs: number
  readonly redisUs: number
  readonly waits: readonly number[]
  readonly callsPerCheck: number
}

async function runRound(
  { inFlight }: Way,
  checkNext: (turn: number) => MaybePromise<Decision>,
  node: TestNode,
  server: RedisServer,
): Promise<Round> {
  const waits: number[] = []
  let [checks, allowed, isRunning] = [0, 0, true]
  const runner = async () => {
    for (let turn = 0; isRunning; turn++) {
      const startedAt = performance.now()
      const decision = checkNext(checks++)
      const { kind } = decision instanceof Promise ? await decision : decision
      if (kind === 'allowed') allowed++
      if (turn % 16 === 0) waits.push(performance.now() - startedAt)
      // Decisions from memory never wait: let the others have their turn.
      if (turn % 64 === 63) await new Promise((resolve) => setImmediate(resolve))
    }
  }
  const callsBefore = node.figure('calls')
  const redisBefore = await redisCpuUs(server)
  const nodeBefore = process.cpuUsage()
  const startedAt = performance.now()
  setTimeout(() => {
    isRunning = false
  }, SECONDS * 1_000)
  await Promise.all(Array.from({ length: inFlight }, runner))
  const seconds = (performance.now() - startedAt) / 1_000
  const { user, system } = process.cpuUsage(nodeBefore)
  return {
    perSecond: checks / seconds,
    allowedPercent: (100 * allowed) / checks,
    nodeUs: (user + system) / checks,
    redisUs: ((await redisCpuUs(server)) - redisBefore) / checks,
    waits,
    callsPerCheck: (node.figure('calls') - callsBefore) / checks,
  }
}

async function redisCpuUs(server: RedisServer): Promise<number> {
  const text = await server.admin.info('cpu')
  const read = (field: string) => Number(new RegExp(`^${field}:(.*)$`, 'm').exec(text)?.[1] ?? 0)
  return (read('used_cpu_sys') + read('used_cpu_user')) * 1e6
}

const REQUESTS = 20_000

/** CPU of the gateway process per request, on either store, with warm caches. */
async function benchGateways(server: RedisServer): Promise<void> {
  await using upstream = await startEchoUpstream()
  const config = (store: object) => ({
    gateway: { workers: 1 },
    store,
    upstreams: { echo: { targets: [upstream.url] } },
    keyspaces: [{ ksid: 'ks_bench', name: 'bench', keys_prefix: 'b_' }],
    routes: [{ name: 'all', keyspace: 'ks_bench', upstream: 'echo' }],
  })
  const figures: number[] = []
  for (const [name, store] of [
    ['embedded', { path: './data' }],
    ['Redis', { redis: { url: server.url, prefix: uniquePrefix(), timeout: '5s' } }],
  ] as const) {
    await using gateway = await startGateway({ config: config(store) })
    const us = await cpuPerRequest(gateway)
    figures.push(us)
    row(`gateway on ${name}, CPU per forwarded request`, `${us.toFixed(1)} µs`)
  }
  row('ratio', ((figures[1] ?? 0) / (figures[0] ?? 1)).toFixed(2))
}

async function cpuPerRequest(gateway: RunningGateway): Promise<number> {
  const ratelimit = { limit: 1_000_000, refill_rate: 1_000, refill_interval: 1_000 }
  const tokens: string[] = []
  for (let key = 0; key < 100; key++) {
    const { body } = await gateway.rpc('keys.create', { ksid: 'ks_bench', ratelimit })
    tokens.push((body as { token: string }).token)
  }
  await using load = openLoad(gateway.gatewayUrl, 64)
  const run = async (requests: number) => {
    let sent = 0
    const runner = async () => {
      while (sent < requests) await load.send({ authorization: `Bearer ${tokens[sent++ % tokens.length]}` })
    }
    await Promise.all(Array.from({ length: 64 }, runner))
  }
  await run(REQUESTS / 2)
  const before = processCpuUs(gateway.pid)
  await run(REQUESTS)
  return (processCpuUs(gateway.pid) - before) / REQUESTS
}

/** Linux: user and system time in ticks of 10 ms. The launcher becomes the gateway or starts it. */
function processCpuUs(pid: number): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean)
  const ticks = [String(pid), ...children].map((each) => {
    const fields = readFileSync(`/proc/${each}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ')
    return Number(fields[11]) + Number(fields[12])
  })
  return ticks.reduce((sum, each) => sum + each, 0) * 10_000
}
