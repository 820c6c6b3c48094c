import { type Limit, refills } from '../../domain/bucket.ts'
import type { TakeResult } from '../../ports/stores.ts'
import type { Argument } from './connection.ts'
import type { Layout } from './layout.ts'
import type { RedisRecord } from './records.ts'

/** What goes out to buckets.lua and comes back, and what a thread makes of it. */

const LEASE_TOKENS_MAX = 64
/** A key is hot, and worth a lease, from this many checks in one turn of the event loop. */
const HOT_CHECKS = 4

interface Waiter {
  readonly resolve: (result: TakeResult) => void
  readonly reject: (error: unknown) => void
}

/** What one call takes from one bucket: for all checks of a turn that have the same key and cost. */
export interface Job {
  readonly record: RedisRecord
  readonly cost: number
  readonly waiters: Waiter[]
  /** Of the last check that joined. */
  wallMs: number
  lend: number
  back: number
  under: number
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

/** The keys and arguments of one call, as buckets.lua says. Decides which jobs ask for a lease. */
export function encodeJobs(
  jobs: readonly Job[],
  call: {
    readonly layout: Layout
    readonly lessees: number
    /** Instants by the server's clock, or 0: see buckets.lua. */
    readonly overrideMs: number
    readonly notAfterMs: number
  },
): { keys: string[]; args: Argument[] } {
  const limits = new Map<string, number>()
  const keys: string[] = []
  const rest: Argument[] = []
  for (const job of jobs) {
    const { record, cost, waiters, back, under } = job
    let limit = limits.get(record.limitText)
    if (limit === undefined) {
      limit = limits.size + 1
      limits.set(record.limitText, limit)
    }
    if (record.mayLease && cost === 1 && waiters.length >= HOT_CHECKS) job.lend = LEASE_TOKENS_MAX
    keys.push(call.layout.bucket(record.shard, record.kid))
    const [want, unit, force] = [cost * waiters.length, Math.max(cost, 1), record.isConfirmed ? 1 : 0]
    rest.push(record.createdAtMs, `${limit} ${want} ${unit} ${job.lend} ${back} ${under} ${force}`)
  }
  // Halved, so that two threads that ask at the same time leave something.
  const head = [call.overrideMs, call.notAfterMs, 2 * call.lessees, limits.size]
  return { keys, args: [...head, ...limits.keys(), ...rest] }
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
