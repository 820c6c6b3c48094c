import { afterAll, beforeAll } from 'vitest'
import type { BucketStore, KeyRecord } from '../../src/ports/stores.ts'
import { openRedisCache } from '../../src/stores/redis/cache-store.ts'
import { createFakeLogger, type FakeClock } from '../support/fakes.ts'
import { describeRedis, startCluster, startRedis, startSentinel } from '../support/redis.ts'
import { openTestRedis, type RedisPlace, type TestSettings, uniquePrefix } from '../support/redis-store.ts'
import { type CacheUnderTest, describeCacheStore } from './cache-store.contract.ts'
import { describeKeyStore, type StoreUnderTest } from './key-store.contract.ts'

interface Started {
  readonly place: RedisPlace
  close(): Promise<void>
}

const TOPOLOGIES: Record<string, () => Promise<Started>> = {
  'one server': async () => {
    const server = await startRedis()
    return { place: { url: process.env['REDIS_URL'] ?? server.url }, close: server.close }
  },
  'a cluster of three masters': async () => {
    const cluster = await startCluster()
    return { place: { cluster: cluster.urls }, close: cluster.close }
  },
  'behind Sentinels': async () => {
    const sentinel = await startSentinel()
    return { place: { sentinels: sentinel.urls, name: sentinel.name }, close: sentinel.close }
  },
}

describeRedis.each(Object.keys(TOPOLOGIES))('Redis, %s', (topology) => {
  let started: Started | undefined
  beforeAll(async () => {
    started = await TOPOLOGIES[topology]?.()
  }, 60_000)
  afterAll(() => started?.close())

  describeKeyStore('redis', (clock) => {
    if (started === undefined) throw new Error('Redis did not start')
    return openAt({ ...started.place, prefix: uniquePrefix() }, clock)
  })

  describeCacheStore('redis', () => {
    if (started === undefined) throw new Error('Redis did not start')
    return openCacheAt(started.place)
  })
})

async function openCacheAt(place: RedisPlace): Promise<CacheUnderTest> {
  const { cacheStore, close } = await openRedisCache(place, createFakeLogger())
  return {
    cacheStore,
    async reopen() {
      close()
      return openCacheAt(place)
    },
    close: async () => close(),
  }
}

async function openAt(settings: TestSettings, clock: FakeClock): Promise<StoreUnderTest> {
  const store = await openTestRedis(settings, clock)
  return {
    keyStore: store.keyStore,
    records: store.checker.records,
    buckets: store.checker.buckets as BucketStore<KeyRecord>,
    async reopen() {
      await store.close()
      return openAt(settings, clock)
    },
    close: () => store.close(),
  }
}
