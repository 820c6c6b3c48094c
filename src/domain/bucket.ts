/**
 * Token-bucket arithmetic: the one truth. Every other implementation (the shared table, later a
 * Redis script) must give the same answers for the same sequence of calls.
 *
 * Refills come in steps, on the grid `anchor + n * interval`, where the anchor is the instant at
 * which the key was created. So a full bucket can be forgotten and rebuilt identically, and no
 * fraction of an interval is ever lost. A clock that steps back refills nothing.
 *
 * All instants are whole milliseconds since the epoch.
 */

export interface Limit {
  /** Most tokens that the bucket holds: 1 to 2^31 - 1. */
  readonly capacity: number
  /** Tokens added at each refill: 0 to 2^31 - 1. With 0 the bucket never refills. */
  readonly rate: number
  /** Milliseconds between refills: 0 to 2^53 - 1. With 0 the bucket never refills. */
  readonly intervalMs: number
}

export interface BucketState {
  /** At most the capacity. Negative only while a lowered limit is being worked off (see `convert`). */
  readonly remaining: number
  readonly lastRefilledMs: number
}

export interface Take {
  readonly allowed: boolean
  /** The state after the call; unchanged but for refills when the call was denied. */
  readonly state: BucketState
}

export function refills(limit: Limit): boolean {
  return limit.rate > 0 && limit.intervalMs > 0
}

/** The state of a bucket that was never used, or was forgotten while it was full. */
export function fullState(limit: Limit, anchorMs: number, nowMs: number): BucketState {
  return { remaining: limit.capacity, lastRefilledMs: gridFloor(limit, anchorMs, nowMs) }
}

/** The last refill at or before `nowMs`; the anchor itself where the bucket never refills. */
export function gridFloor(limit: Limit, anchorMs: number, nowMs: number): number {
  if (!refills(limit)) return anchorMs
  return anchorMs + Math.floor((nowMs - anchorMs) / limit.intervalMs) * limit.intervalMs
}

/** Brings a state up to `nowMs`; `undefined` stands for a full bucket. */
export function refill(
  state: BucketState | undefined,
  limit: Limit,
  anchorMs: number,
  nowMs: number,
): BucketState {
  if (state === undefined) return fullState(limit, anchorMs, nowMs)
  if (!refills(limit)) return state
  const intervals = Math.floor((nowMs - state.lastRefilledMs) / limit.intervalMs)
  if (intervals <= 0) return state
  return {
    remaining: refilledRemaining(state.remaining, limit, intervals),
    lastRefilledMs: state.lastRefilledMs + intervals * limit.intervalMs,
  }
}

/** `min(capacity, remaining + intervals * rate)`, without the product, which may exceed 2^53. */
export function refilledRemaining(remaining: number, limit: Limit, intervals: number): number {
  const intervalsToFull = Math.ceil((limit.capacity - remaining) / limit.rate)
  return intervals >= intervalsToFull ? limit.capacity : remaining + intervals * limit.rate
}

/** Takes `cost` tokens or none. `cost` is a whole number from 0; 0 is always allowed. */
export function take(
  state: BucketState | undefined,
  limit: Limit,
  anchorMs: number,
  nowMs: number,
  cost: number,
): Take {
  const current = refill(state, limit, anchorMs, nowMs)
  if (Math.max(current.remaining, 0) < cost) return { allowed: false, state: current }
  return {
    allowed: true,
    state: { remaining: current.remaining - cost, lastRefilledMs: current.lastRefilledMs },
  }
}

/**
 * Milliseconds from `nowMs` until `cost` tokens are there; `undefined` when they never will be,
 * because the bucket does not refill or cannot hold that many.
 */
export function untilFits(state: BucketState, limit: Limit, nowMs: number, cost: number): number | undefined {
  if (Math.max(state.remaining, 0) >= cost) return 0
  if (!refills(limit) || cost > limit.capacity) return undefined
  const intervals = Math.ceil((cost - state.remaining) / limit.rate)
  return Math.max(0, state.lastRefilledMs + intervals * limit.intervalMs - nowMs)
}

/** Milliseconds to the next refill; `undefined` when there is none or the bucket is full. */
export function untilNextRefill(state: BucketState, limit: Limit, nowMs: number): number | undefined {
  if (!refills(limit) || state.remaining >= limit.capacity) return undefined
  return Math.max(0, state.lastRefilledMs + limit.intervalMs - nowMs)
}

/**
 * Carries a bucket from one limit to another at `nowMs`. What was used stays used: with 30 of 100
 * spent, a limit of 200 leaves 170 and a limit of 20 leaves a debt of 10. So a raised limit helps
 * at once, a lowered one holds at once, and switching to and fro admits nothing extra. The last
 * refill moves to the grid of the new limit. A full bucket (and a key without a limit) becomes a
 * full bucket, which is returned as `undefined`.
 */
export function convert(
  state: BucketState | undefined,
  change: { readonly from: Limit | undefined; readonly to: Limit | undefined },
  anchorMs: number,
  nowMs: number,
): BucketState | undefined {
  const { from, to } = change
  if (state === undefined || from === undefined || to === undefined) return undefined
  const current = refill(state, from, anchorMs, nowMs)
  const used = from.capacity - current.remaining
  if (used <= 0) return undefined
  const floorAt = Math.max(nowMs, current.lastRefilledMs)
  return { remaining: to.capacity - used, lastRefilledMs: gridFloor(to, anchorMs, floorAt) }
}

export function sameLimit(a: Limit | undefined, b: Limit | undefined): boolean {
  if (a === undefined || b === undefined) return a === b
  return a.capacity === b.capacity && a.rate === b.rate && a.intervalMs === b.intervalMs
}
