import type { Config } from '../config/schema.ts'
import type { StoreFigures } from '../ports/store-figures.ts'
import type { BucketStore, KeyRecord, RecordSource } from '../ports/stores.ts'
import { RecordCache } from './embedded/record-cache.ts'
import { SharedTable } from './embedded/shared-table.ts'
import { openChecker } from './redis/checker.ts'
import { listLeasesOff, type StoreFromThread, type StoreSeed, type StoreToThread } from './store.ts'

/** The store as one data-plane thread sees it. */
export interface ThreadStore {
  readonly records: RecordSource
  readonly buckets: BucketStore
  /** Decides while the store is away (`on_store_error: local`); none where it is in this process. */
  readonly local: (RecordSource & BucketStore) | undefined
  receive(message: StoreToThread): void
  configure(config: Config): void
  /** Resolves when the store can be asked, or when waiting longer is of no use. */
  ready(): Promise<void>
  close(): Promise<void>
}

const READY_WITHIN_MS = 2_000

export function openThreadStore(deps: {
  readonly seed: StoreSeed
  readonly config: Config
  readonly figures: StoreFigures
  readonly post: (message: StoreFromThread) => void
}): ThreadStore {
  const { seed, config, figures, post } = deps
  const { cache_keys, cache_unknown, redis } = config.store
  const caches = { keysMax: cache_keys, unknownMax: cache_unknown }
  if (seed.kind === 'embedded' || redis === undefined) return openEmbedded(seed, { ...caches, post })

  let leasesOff = listLeasesOff(config)
  const checker = openChecker({
    settings: redis,
    ...caches,
    figures,
    leasesOff: () => leasesOff,
    fleetOf: seed.threads,
  })
  const { records, buckets, local } = checker
  return {
    records,
    buckets: buckets as BucketStore<KeyRecord>,
    local: local as RecordSource & BucketStore<KeyRecord>,
    receive(message) {
      if (message.kind !== 'changed') return
      checker.apply(message.change)
      post({ kind: 'applied', id: message.id })
    },
    configure(next) {
      leasesOff = listLeasesOff(next)
      checker.apply({ kind: 'all' })
    },
    ready: () => checker.connection.ready(READY_WITHIN_MS).catch(() => {}),
    close: checker.close,
  }
}

function openEmbedded(
  seed: StoreSeed,
  options: {
    readonly keysMax: number
    readonly unknownMax: number
    readonly post: (message: StoreFromThread) => void
  },
): ThreadStore {
  if (seed.kind !== 'embedded')
    throw new Error('the store of the configuration is not the one that was opened')
  const records = new RecordCache(options)
  return {
    records,
    buckets: new SharedTable(seed.table) as BucketStore<KeyRecord>,
    local: undefined,
    receive: (message) => message.kind !== 'changed' && records.receive(message),
    configure: () => {},
    ready: () => Promise.resolve(),
    close: async () => records.close(),
  }
}
