import type { BucketStore, KeyRecord } from '../../src/ports/stores.ts'
import { createTempDirectory, openTestStore } from '../support/embedded-store.ts'
import type { FakeClock } from '../support/fakes.ts'
import { describeKeyStore, type StoreUnderTest } from './key-store.contract.ts'

describeKeyStore('embedded', async (clock) => {
  const { directory, remove } = createTempDirectory()
  return openAt(directory, clock, remove)
})

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
