import { describeKeyStore, type StoreUnderTest } from '../contract/key-store.contract.ts'
import { createMemoryStore } from '../support/memory-key-store.ts'

// The fake that other tests lean on keeps the same contract as the real store.
describeKeyStore('in memory', async (clock) => {
  const store = createMemoryStore(clock)
  const underTest: StoreUnderTest = {
    keyStore: store,
    records: {
      find: (tokenHash) => store.find(tokenHash),
      forget: (tokenHash) => store.forget(tokenHash),
    },
    buckets: {
      take: (record, cost, nowMs, wallMs) => {
        if (!('entry' in record)) throw new Error('not a record of this store')
        return store.take(record as Parameters<typeof store.take>[0], cost, nowMs, wallMs)
      },
    },
    async reopen() {
      await Promise.resolve()
      store.restart()
      return underTest
    },
    close: async () => {},
  }
  return underTest
})
