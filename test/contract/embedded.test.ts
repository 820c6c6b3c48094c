import type { BucketStore, KeyRecord } from '../../src/ports/stores.ts'
import { createTempDirectory, openTestStore } from '../support/embedded-store.ts'
import type { FakeClock } from '../support/fakes.ts'
import { type CacheUnderTest, describeCacheStore } from './cache-store.contract.ts'
import { describeKeyStore, type StoreUnderTest } from './key-store.contract.ts'

describeKeyStore('embedded', async (clock) => {
  const { directory, remove } = createTempDirectory()
  return openAt(directory, clock, remove)
})

describeCacheStore('embedded', async () => {
  const { directory, remove } = createTempDirectory()
  return openCacheAt(directory, remove)
})

async function openCacheAt(directory: string, remove: () => void): Promise<CacheUnderTest> {
  const store = await openTestStore(directory, { bucketMs: Date.now, wallMs: Date.now })
  return {
    cacheStore: store.cacheStore,
    async reopen() {
      await store.close()
      return openCacheAt(directory, remove)
    },
    async close() {
      await store.close()
      remove()
    },
  }
}

async function openAt(directory: string, clock: FakeClock, remove: () => void): Promise<StoreUnderTest> {
  const store = await openTestStore(directory, clock)
  return {
    keyStore: store.keyStore,
    records: store.records,
    buckets: store.table as BucketStore<KeyRecord>,
    async reopen() {
      await store.close()
      return openAt(directory, clock, remove)
    },
    async close() {
      await store.close()
      remove()
    },
  }
}
