import { type Limit, refills } from '../../domain/bucket.ts'
import type { StoreUnavailable, TakeResult } from '../../ports/stores.ts'
import type { BucketStep } from './bucket-script.ts'
import type { RedisRecord } from './records.ts'

/** What a thread asks of buckets, and what it makes of the answers. */

export const LEASE_TOKENS_MAX = 64
/** A key is hot, and worth a lease, from this many checks in one turn of the event loop. */
export const HOT_CHECKS = 4

/** What goes to Redis in one call. */
export interface Batch {
  /** Of buckets that may go in one call: all, or in a cluster those of one shard. */
  readonly group: number
  readonly jobs: Job[]
  /** No two jobs are for the same key. */
  isDistinct: boolean
  /** Resolves when all jobs have their answers; rejects with `StoreUnavailable`. */
  readonly answered: Promise<void>
  readonly resolve: () => void
  readonly reject: (error: StoreUnavailable) => void
}

/** What one call takes from one bucket: for all checks of a turn that have the same key and cost. */
export interface Job extends BucketStep {
  readonly record: RedisRecord
  readonly cost: number
  readonly batch: Batch
  /** How many wait for the answer. */
  checks: number
  /** Of the last check that joined. */
  wallMs: number
  /** When it was answered, by the server's clock. */
  serverMs: number
}

export function createBatch(group: number): Batch {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  // Nobody waits where a batch only brings leases home.
  promise.catch(() => {})
  return { group, jobs: [], isDistinct: true, answered: promise, resolve, reject }
}

export function createJob(record: RedisRecord, cost: number, key: string, batch: Batch): Job {
  return {
    key,
    anchorMs: record.createdAtMs,
    limitText: record.limitText,
    want: 0,
    unit: Math.max(cost, 1),
    lend: 0,
    back: 0,
    under: 0,
    isForced: record.isConfirmed,
    got: 0,
    remaining: 0,
    lastMs: 0,
    record,
    cost,
    batch,
    checks: 0,
    wallMs: 0,
    serverMs: 0,
  }
}

export interface Lease {
  readonly record: RedisRecord
  left: number
  readonly endsAt: number
  readonly under: number
}

/** How far a server's clock is ahead of ours, at most, and when we knew. */
export interface ServerClock {
  readonly aheadMs: number
  readonly knownAt: number
}

/** When a call was sent and answered, by our clock, and what the server's clock said in between. */
export interface Moment {
  readonly sentAt: number
  readonly serverMs: number
  readonly answeredAt: number
}

/** What this thread knows of a bucket, as of the last answer. */
export interface Known {
  limitText: string
  remaining: number
  last: number
  /** The server's clock when it answered, and ours. */
  serverMs: number
  answeredAt: number
  /** Until then, by our clock, no more than `remaining` can be there. */
  blockedUntil: number
  /** Connections are counted, to notice what a failover forgot. */
  epoch: number
}

/**
 * Milliseconds to the next refill, at least: the server's clock is read in whole milliseconds, and
 * later than the call was sent.
 */
export function toUntilRefill(limit: Limit, last: number, serverMs: number): number {
  return refills(limit) ? last + limit.intervalMs - serverMs - 1 : Number.POSITIVE_INFINITY
}

export function toResult(kind: 'taken' | 'denied', known: Known, remaining: number, now: number): TakeResult {
  // The server's clock may be further by now, never less: so nobody is told to come back too early.
  const nowMs = known.serverMs + Math.floor(now - known.answeredAt)
  return { kind, remaining, lastRefilledMs: known.last, nowMs }
}
