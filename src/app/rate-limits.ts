import type { Limit } from '../domain/bucket.ts'

/** A limit as the RPC and the configuration write it; the interval is in milliseconds. */
export interface RateLimitView {
  limit: number
  refill_rate: number
  refill_interval: number
}

/** `limit: 0` says nothing: a key inherits its keyspace's limit, a keyspace has none. */
export function toLimit(view: Readonly<RateLimitView> | null | undefined): Limit | undefined {
  if (view === undefined || view === null || view.limit === 0) return undefined
  return { capacity: view.limit, rate: view.refill_rate, intervalMs: view.refill_interval }
}

export function fromLimit(limit: Limit): RateLimitView {
  return { limit: limit.capacity, refill_rate: limit.rate, refill_interval: limit.intervalMs }
}
