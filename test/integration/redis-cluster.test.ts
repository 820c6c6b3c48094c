import { expect, it } from 'vitest'
import type { RedisRecord } from '../../src/stores/redis/records.ts'
import { startEchoUpstream } from '../support/echo-upstream.ts'
import type { RunningGateway } from '../support/gateway.ts'
import { openLoad } from '../support/load.ts'
import {
  describeRedis,
  type RedisCluster,
  type RedisServer,
  startCluster,
  startSentinel,
  until,
} from '../support/redis.ts'
import { createKey, readMetric, startNodes } from '../support/redis-gateways.ts'
import { openTestNode, recordOf, type TestNode, uniquePrefix } from '../support/redis-store.ts'

const LIFETIME = { capacity: 400, rate: 0, intervalMs: 0 }
const KEYS = 24

describeRedis('a Redis cluster', () => {
  it('moves a slot under load: no bucket is doubled or lost, and no check refused for it', async () => {
    await using cluster = await startCluster()
    const place = { cluster: cluster.urls, prefix: uniquePrefix() }
    const nodes = await Promise.all([openTestNode(place), openTestNode(place)])
    const records = recordsOfOneShard()
    const tallies = records.map((record) => ({ record, admitted: 0, denied: 0, failed: 0 }))
    let isRunning = true
    let rounds = 0
    // The last third of the keys has no bucket before the slot begins to move.
    let inUse = Math.floor((KEYS * 2) / 3)
    const runner = async (node: TestNode) => {
      while (isRunning) {
        const some = tallies.slice(0, inUse).filter(() => Math.random() < 0.5)
        await Promise.all(some.map((tally) => count(node, tally)))
        rounds++
        await pause(5)
      }
    }
    const runners = nodes.map(runner)
    await until(() => rounds > 20)
    const name = nodes[0]?.checker.layout.bucket(records[0]?.shard ?? 0, records[0]?.kid ?? '') ?? ''
    await moveSlot(cluster, name, async () => {
      inUse = KEYS
      await pause(10)
    })
    const moved = rounds
    await until(() => rounds > moved + 20)
    isRunning = false
    await Promise.all(runners)
    const failed = tallies.reduce((sum, tally) => sum + tally.failed, 0)
    for (const { record, admitted, denied } of tallies) {
      const { remaining = Number.NaN } = (await nodes[0]?.take(record, 0)) ?? {}
      // Refused only where nothing was left, and nothing was admitted twice.
      expect({ left: admitted + remaining, isEarly: denied > 0 && remaining > 0 }).toEqual({
        left: LIFETIME.capacity,
        isEarly: false,
      })
    }
    expect(failed).toBe(0)
    await Promise.all(nodes.map((node) => node.close()))
  }, 60_000)
})

interface Tally {
  readonly record: RedisRecord
  admitted: number
  denied: number
  failed: number
}

async function count(node: TestNode, tally: Tally): Promise<void> {
  const result = await node.take(tally.record).catch((error: unknown) => {
    if (!(error instanceof Error) || error.name !== 'StoreUnavailable') throw error
    return undefined
  })
  if (result === undefined) tally.failed++
  else if (result.kind === 'taken') tally.admitted++
  else tally.denied++
}

function recordsOfOneShard(): RedisRecord[] {
  const records: RedisRecord[] = []
  while (records.length < KEYS) {
    const record = recordOf(LIFETIME)
    if (record.shard === (records[0]?.shard ?? record.shard)) records.push(record)
  }
  return records
}

/** From the node that has the slot of a key to the next one, key by key, with `between` after each. */
async function moveSlot({ servers }: RedisCluster, key: string, between: () => Promise<void>): Promise<void> {
  const slot = Number(await servers[0]?.admin.call('CLUSTER', 'KEYSLOT', key))
  const owner = Math.floor((slot * 3) / 16_384)
  const [from, to] = [servers[owner] as RedisServer, servers[(owner + 1) % 3] as RedisServer]
  const idOf = async (server: RedisServer) => String(await server.admin.call('CLUSTER', 'MYID'))
  const [fromId, toId] = [await idOf(from), await idOf(to)]
  await to.admin.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', fromId)
  await from.admin.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', toId)
  for (;;) {
    await between()
    const [next] = (await from.admin.call('CLUSTER', 'GETKEYSINSLOT', slot, 1)) as string[]
    if (next === undefined) break
    await from.admin.call('MIGRATE', '127.0.0.1', to.port, next, 0, 5_000)
  }
  for (const server of [to, from, ...servers]) {
    await server.admin.call('CLUSTER', 'SETSLOT', slot, 'NODE', toId)
  }
}

describeRedis('two gateways under load while a master is killed', () => {
  it.each([
    ['behind Sentinels', false],
    ['in a cluster', true],
  ] as const)(
    '%s: served again, no key gets more than one bucket too much, and the excess is counted',
    async (_name, isCluster) => {
      await using place = await (isCluster ? startCluster({ replicas: true }) : startSentinel())
      await using upstream = await startEchoUpstream()
      const redis =
        'servers' in place ? { cluster: [...place.urls] } : { sentinels: [...place.urls], name: place.name }
      const nodes = await startNodes(2, {
        redis: { ...redis, timeout: 25 },
        upstream: upstream.url,
        workers: 1,
      })
      const loads = nodes.map((node) => openLoad(node.gatewayUrl, 8))
      const limit = 300
      const keys = await Promise.all(
        Array.from({ length: 8 }, (_, index) =>
          until(async () => (await readiness(nodeAt(index))) === 200).then(() =>
            createKey(nodeAt(index), [limit, 0, 0]),
          ),
        ),
      )
      const admitted = keys.map(() => 0)
      const isEmpty = keys.map(() => false)
      let [isRunning, unavailable] = [true, 0]
      const runners = loads.flatMap((load) =>
        keys.map(async ({ token }, index) => {
          while (isRunning) {
            const headers = { authorization: `Bearer ${token}` }
            const { status } = await load.send(headers, { path: '/deny' })
            if (status === 200) admitted[index] = (admitted[index] ?? 0) + 1
            else if (status === 503) unavailable++
            else if (status === 429) isEmpty[index] = true
            else throw new Error(`a request got ${status}`)
            await pause(20)
          }
        }),
      )
      const sum = () => admitted.reduce((total, each) => total + each, 0)
      await until(() => sum() > 8 * 40)
      await ('servers' in place ? place.servers[0] : place.master)?.kill()
      await until(() => unavailable > 0)
      await until(() => isEmpty.every((each) => each), 60_000)
      isRunning = false
      await Promise.all(runners)
      const forgotten = await Promise.all(
        nodes.map((node) => readMetric(node, 'dripgate_store_forgotten_tokens_total')),
      )
      // A check that failed may have been carried out: then a key gets less than its limit.
      const excess = admitted.map((each) => Math.max(0, each - limit))
      process.stderr.write(
        `${_name}: ${unavailable} requests got 503, ${excess.reduce((total, each) => total + each, 0)} of ${8 * limit} admitted too much, ${forgotten.join(' + ')} counted as forgotten\n`,
      )
      expect(Math.max(...excess)).toBeLessThanOrEqual(limit)
      expect(excess.reduce((total, each) => total + each, 0)).toBeLessThanOrEqual(
        forgotten.reduce((total, each) => total + each, 0),
      )
      await Promise.all(loads.map((load) => load[Symbol.asyncDispose]()))
      for (const node of nodes) await node.stop()

      function nodeAt(index: number): RunningGateway {
        return nodes[index % nodes.length] as RunningGateway
      }
    },
    150_000,
  )
})

async function readiness({ adminUrl }: RunningGateway): Promise<number> {
  return (await fetch(`${adminUrl}/readyz`)).status
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
