import type { Worker } from 'node:worker_threads'
import type { Config } from '../config/schema.ts'
import type { CacheStore } from '../ports/cache-store.ts'
import type { CallWindow } from '../ports/call-window.ts'
import type { Clock, Logger } from '../ports/runtime.ts'
import type { BucketStore, KeyRecord, KeyStore, RecordSource } from '../ports/stores.ts'
import type { FromDirectory, StorageOptions, ToDirectory } from './embedded/messages.ts'
import type { TableMemory } from './embedded/shared-table.ts'
import { openEmbeddedStore } from './embedded/store.ts'
import { openRedisCache } from './redis/cache-store.ts'
import type { FromRedisStore, ToRedisStore } from './redis/messages.ts'
import { openRedisStore } from './redis/store.ts'

/** The store of the configuration, as the control thread sees it. */
export interface Store {
  readonly keyStore: KeyStore
  /** What scripts keep and drop by plain keys; `admin.script.redis`, else in the store. */
  readonly cacheStore: CacheStore
  readonly callWindow: CallWindow
  /** Both for checks on the control thread. */
  readonly records: RecordSource
  readonly buckets: BucketStore
  /** What a data-plane thread opens the store with. */
  readonly seed: StoreSeed
  /** Answers a thread until the returned function is called. */
  serve(thread: { post(message: StoreToThread): void }): {
    receive(message: StoreFromThread): void
    leave(): void
  }
  /**
   * Makes every thread of every node find what it knows of keys anew. `false`: a thread of this node
   * did not confirm it in time, or the other nodes could not be told.
   */
  forgetRecords(): Promise<boolean>
  /** Settings of keyspaces may have changed. */
  configure(config: Config): void
  /** What does not work as it should though requests are served, by name. */
  listTroubles(): Readonly<Record<string, string>>
  /** Rejects where what was spent could not be written down. */
  close(): Promise<void>
}

export type StoreSeed =
  | { readonly kind: 'embedded'; readonly table: TableMemory }
  /** Threads have connections of their own. */
  | { readonly kind: 'redis'; readonly threads: number }
export type StoreToThread = FromDirectory | FromRedisStore
export type StoreFromThread = ToDirectory | ToRedisStore

export interface StoreDeps {
  readonly config: Config
  readonly clock: Clock
  readonly logger: Logger
  /** Data-plane threads. */
  readonly threads: number
  readonly spawnStorage: (options: StorageOptions) => Worker
  readonly onUp: (isUp: boolean) => void
  readonly onFlush: (durationMs: number) => void
  readonly onFatal: (error: Error) => void
}

/** Rejects with an `Error` whose message is for the user. */
export async function openStore(deps: StoreDeps): Promise<Store> {
  const { redis } = deps.config.store
  const cachePlace = deps.config.admin.script.redis ?? redis
  if (cachePlace === undefined) return openEmbedded(deps)
  const { cacheStore, close } = await openRedisCache(cachePlace, deps.logger)
  const opening: Promise<Omit<Store, 'cacheStore'>> =
    redis === undefined ? openEmbedded(deps) : openRedis(deps, redis)
  const store = await opening.catch((error: unknown) => {
    close()
    throw error
  })
  return {
    ...store,
    cacheStore,
    close() {
      close()
      return store.close()
    },
  }
}

async function openEmbedded(deps: StoreDeps): Promise<Store> {
  const { config, clock, logger, threads, spawnStorage, onUp, onFlush, onFatal } = deps
  const store = await openEmbeddedStore({
    directory: config.store.path,
    // Room for what every thread may remember, the control thread, and what is about to be freed.
    slots: Math.max(65_536, config.store.cache_keys * (threads + 2)),
    keepExpiredMs: config.store.keep_expired,
    clock,
    logger,
    onFatal,
    spawnStorage,
    onFlush({ ok, durationMs }) {
      onUp(ok)
      if (ok) onFlush(durationMs)
    },
  })
  const { keyStore, cacheStore, callWindow, records, table, memory } = store
  return {
    keyStore,
    cacheStore,
    callWindow,
    records,
    buckets: table as BucketStore<KeyRecord>,
    seed: { kind: 'embedded', table: memory },
    serve(thread) {
      const { receive, leave } = store.serve(thread)
      return { receive: (message) => message.kind !== 'applied' && receive(message), leave }
    },
    forgetRecords: store.forgetRecords,
    configure: () => {},
    listTroubles: () => ({}),
    close: store.close,
  }
}

async function openRedis(
  deps: StoreDeps,
  settings: NonNullable<Config['store']['redis']>,
): Promise<Omit<Store, 'cacheStore'>> {
  const { clock, logger, onUp } = deps
  const { cache_keys, cache_unknown, keep_expired } = deps.config.store
  let leasesOff = listLeasesOff(deps.config)
  const store = await openRedisStore({
    settings,
    keysMax: cache_keys,
    unknownMax: cache_unknown,
    keepExpiredMs: keep_expired,
    leasesOff: () => leasesOff,
    clock,
    logger,
    onUp,
  })
  return {
    keyStore: store.keyStore,
    callWindow: store.callWindow,
    records: store.checker.records,
    buckets: store.checker.buckets as BucketStore<KeyRecord>,
    seed: { kind: 'redis', threads: deps.threads },
    serve(thread) {
      const { receive, leave } = store.serve(thread)
      return { receive: (message) => message.kind === 'applied' && receive(message), leave }
    },
    forgetRecords: () => store.announce({ kind: 'records' }),
    configure(config) {
      leasesOff = listLeasesOff(config)
      store.checker.apply({ kind: 'all' })
    },
    listTroubles: store.listTroubles,
    close: store.close,
  }
}

/** Keyspaces whose buckets must not be taken from on lease. */
export function listLeasesOff({ keyspaces }: Config): ReadonlySet<string> {
  return new Set(keyspaces.filter(({ leases }) => leases === 'off').map(({ ksid }) => ksid))
}
