import type { BucketState, Limit } from '../domain/bucket.ts'
import type { Expiry, Key, Keyspace } from '../domain/key.ts'
import type { Policy, ServiceKey } from '../domain/service-key.ts'

/**
 * What a thread holds of a key to decide about its token. Adapters extend it with what their
 * buckets need; a record may be held for any time, `take` notices when it is out of date.
 */
export interface KeyRecord {
  readonly kid: string
  readonly ksid: string
  readonly limit: Limit | undefined
  /** The grid of refills starts here. */
  readonly createdAtMs: number
  /** `Infinity` when the key never expires. */
  readonly expiresAtMs: number
}

export type MaybePromise<T> = T | Promise<T>

/** Finds the key of a token. One per thread; bounded caches inside. */
export interface RecordSource<R extends KeyRecord = KeyRecord> {
  /**
   * `tokenHash` is the SHA-256 of the token in lowercase hex. Synchronous when it is cached.
   * Throws (or rejects with) `StoreUnavailable` when the store cannot answer in time.
   */
  find(tokenHash: string): MaybePromise<R | undefined>
  /** Drops a cached record that `take` found to be out of date. */
  forget(tokenHash: string): void
}

export interface TakeResult {
  /** `stale`: the record is out of date; forget it, find it again and repeat. Nothing was taken. */
  readonly kind: 'taken' | 'denied' | 'stale'
  /** The state after the call. Meaningless for `stale` and for keys without a limit. */
  readonly remaining: number
  readonly lastRefilledMs: number
  /** When it was decided, where buckets live by another clock than the caller's. */
  readonly nowMs?: number
}

/** Buckets. One per thread, all of them over the same state. */
export interface BucketStore<R extends KeyRecord = KeyRecord> {
  /**
   * Takes `cost` tokens in one atomic step, or none. A success stamps the key's `last_used` with
   * `wallMs`; a denial touches nothing.
   */
  take(record: R, cost: number, nowMs: number, wallMs: number): MaybePromise<TakeResult>
}

/** The store cannot be asked at the moment; what to do is the route's `on_store_error`. */
export class StoreUnavailable extends Error {
  constructor(internal: string, options?: { cause?: unknown }) {
    super(internal, options)
    this.name = 'StoreUnavailable'
  }
}

export interface PageRequest {
  /** From 1. */
  readonly page: number
  /** 1 to 100. */
  readonly limit: number
}

export interface Page<T> {
  readonly items: readonly T[]
  /** Of the whole list, not of this page. */
  readonly total: number
}

export interface StoredKey {
  readonly key: Key
  /** As last written, not refilled; `undefined` for a full bucket or a key without a limit. */
  readonly bucket: BucketState | undefined
  /** `undefined` until the first successful check. */
  readonly lastUsedMs: number | undefined
}

export interface NewKey {
  readonly kid: string
  readonly ksid: string
  /** Lowercase hex SHA-256. */
  readonly tokenHash: string
  readonly createdAtMs: number
  readonly expiresAt: Expiry | undefined
  readonly ownLimit: Limit | undefined
}

/** Absent fields stay as they are; `null` unsets. */
export interface KeyChange {
  readonly expiresAt?: Expiry | null
  readonly ownLimit?: Limit | null
}

export interface KeyspaceChange {
  readonly name?: string
  readonly keysPrefix?: string
  readonly limit?: Limit | null
  readonly requireExpiration?: boolean
}

export interface ServiceKeyChange {
  readonly description?: string
  readonly admin?: boolean
  readonly policies?: ReadonlyMap<string, Policy>
  readonly roles?: readonly string[]
}

/**
 * Keys, keyspaces and service keys. A write that resolves is durable, and is in force on every
 * thread of this node: from then on no thread applies the old state.
 *
 * Writes reject with `RpcError`: `keyspace_exists`, `service_key_exists`, `keyspace_not_found`,
 * `store_full` (nothing was changed) or `store_unavailable`.
 */
export interface KeyStore {
  /** Name and prefix are unique over live keyspaces, and so is the ksid: else `keyspace_exists`. */
  createKeyspace(keyspace: Keyspace): Promise<void>
  findKeyspace(ksid: string): Promise<Keyspace | undefined>
  /** By name, ties by ksid. `visible` limits the list to those ksids; absent shows all. */
  listKeyspaces(page: PageRequest, visible?: ReadonlySet<string>): Promise<Page<Keyspace>>
  /** Resolves to what is stored now; `undefined` where there is no such keyspace. */
  updateKeyspace(ksid: string, change: KeyspaceChange): Promise<Keyspace | undefined>
  /** Deletes its keys and every policy that names it too. `false` where there is none. */
  deleteKeyspace(ksid: string): Promise<boolean>

  /** Rejects with `keyspace_not_found` where the keyspace is not there. */
  createKey(key: NewKey): Promise<void>
  findKey(ksid: string, kid: string): Promise<StoredKey | undefined>
  findKeyByToken(tokenHash: string): Promise<StoredKey | undefined>
  /** Newest first. */
  listKeys(ksid: string, page: PageRequest): Promise<Page<StoredKey>>
  updateKey(ksid: string, kid: string, change: KeyChange): Promise<StoredKey | undefined>
  /** Replaces the token; the old one is refused from the answer on. `false`: no such key. */
  setKeyToken(ksid: string, kid: string, tokenHash: string): Promise<boolean>
  deleteKey(ksid: string, kid: string): Promise<boolean>

  /**
   * A skid stays taken after a delete: `service_key_exists`, as for a token in use. A policy for a
   * keyspace that is not there: `keyspace_not_found`, here and in `updateServiceKey`.
   */
  createServiceKey(serviceKey: ServiceKey, tokenHash: string): Promise<void>
  findServiceKey(skid: string): Promise<ServiceKey | undefined>
  findServiceKeyByToken(tokenHash: string): Promise<ServiceKey | undefined>
  /** Oldest first. */
  listServiceKeys(page: PageRequest): Promise<Page<ServiceKey>>
  updateServiceKey(skid: string, change: ServiceKeyChange): Promise<ServiceKey | undefined>
  /** The old token dies with the answer. A token in use elsewhere: `service_key_exists`. */
  setServiceKeyToken(skid: string, tokenHash: string): Promise<boolean>
  deleteServiceKey(skid: string): Promise<boolean>

  /** Resolves when the store answers, rejects when it does not. For readiness. */
  ping(): Promise<void>
}
