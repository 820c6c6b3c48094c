import { type BucketState, type Limit, take } from '../../domain/bucket.ts'
import type { BucketStore, RecordSource, TakeResult } from '../../ports/stores.ts'
import { BoundedMap } from '../bounded-map.ts'
import type { RedisRecord } from './records.ts'

/**
 * Decides while Redis is away (`on_store_error: local`): each thread by buckets of its own, with
 * the limit and the rate divided by the number of threads that were last alive over all nodes, but
 * at least 1. They start with this thread's share of what was last known to be left. Nothing that
 * is spent here is charged later; when Redis is back, its state stands.
 */
export class LocalBuckets implements RecordSource<RedisRecord>, BucketStore<RedisRecord> {
  readonly #findHeld: (tokenHash: string) => RedisRecord | undefined
  readonly #lastKnown: (record: RedisRecord) => BucketState | undefined
  readonly #threads: () => number
  readonly #states: BoundedMap<{ readonly limit: Limit; readonly state: BucketState }>
  readonly #unavailable: () => Error

  constructor(options: {
    readonly findHeld: (tokenHash: string) => RedisRecord | undefined
    readonly lastKnown: (record: RedisRecord) => BucketState | undefined
    readonly threads: () => number
    readonly statesMax: number
    readonly unavailable: () => Error
  }) {
    this.#findHeld = options.findHeld
    this.#lastKnown = options.lastKnown
    this.#threads = options.threads
    this.#states = new BoundedMap(options.statesMax)
    this.#unavailable = options.unavailable
  }

  /** Throws `StoreUnavailable` for tokens that this thread has never seen. */
  find(tokenHash: string): RedisRecord | undefined {
    const record = this.#findHeld(tokenHash)
    if (record === undefined) throw this.#unavailable()
    if (record.limit === undefined) return record
    const before = this.#states.get(record.kid)
    return { ...record, limit: before?.limit ?? share(record.limit, this.#threads()) }
  }

  forget(): void {}

  take(record: RedisRecord, cost: number, nowMs: number): TakeResult {
    const { kid, limit, createdAtMs } = record
    if (limit === undefined) return { kind: 'taken', remaining: 0, lastRefilledMs: 0 }
    const state = this.#states.get(kid)?.state ?? this.#shareOfKnown(record, limit)
    const result = take(state, limit, createdAtMs, nowMs, cost)
    this.#states.set(kid, { limit, state: result.state })
    const { remaining, lastRefilledMs } = result.state
    return { kind: result.allowed ? 'taken' : 'denied', remaining, lastRefilledMs }
  }

  /** Redis is back. */
  clear(): void {
    this.#states.clear()
  }

  #shareOfKnown(record: RedisRecord, limit: Limit): BucketState | undefined {
    const known = this.#lastKnown(record)
    if (known === undefined) return undefined
    const remaining = Math.min(limit.capacity, Math.floor(Math.max(known.remaining, 0) / this.#threads()))
    return { remaining, lastRefilledMs: known.lastRefilledMs }
  }
}

function share(limit: Limit, threads: number): Limit {
  const part = (whole: number) => (whole === 0 ? 0 : Math.max(1, Math.floor(whole / threads)))
  return { capacity: part(limit.capacity), rate: part(limit.rate), intervalMs: limit.intervalMs }
}
