import { untilFits } from '../domain/bucket.ts'
import type { Decision } from '../domain/decision.ts'
import { isExpired } from '../domain/key.ts'
import type { Clock } from '../ports/runtime.ts'
import {
  type BucketStore,
  type KeyRecord,
  type MaybePromise,
  type RecordSource,
  StoreUnavailable,
  type TakeResult,
} from '../ports/stores.ts'

/** How often a record may turn out stale before the check gives up; each round is an admin write. */
const ROUNDS_MAX = 100

const UNKNOWN: Decision = { kind: 'unknown' }

/**
 * Identifies a token and decides, in one atomic step: the same function for the gateway port and
 * for `keys.check`. `accepts` holds the ksids whose keys are good here. Synchronous when the
 * record is cached and the buckets are in this process. Fails with `StoreUnavailable` when the
 * store cannot answer.
 */
export type CheckKey = (
  tokenHash: string,
  accepts: ReadonlySet<string>,
  cost: number,
) => MaybePromise<Decision>

export function createCheckKey<R extends KeyRecord>(deps: {
  readonly records: RecordSource<R>
  readonly buckets: BucketStore<R>
  readonly clock: Clock
}): CheckKey {
  const { records, buckets, clock } = deps

  return (tokenHash, accepts, cost) => ask(tokenHash, accepts, cost, 0)

  function ask(
    tokenHash: string,
    accepts: ReadonlySet<string>,
    cost: number,
    round: number,
  ): MaybePromise<Decision> {
    const record = records.find(tokenHash)
    if (!(record instanceof Promise)) return decide(record, tokenHash, accepts, cost, round)
    return record.then((found) => decide(found, tokenHash, accepts, cost, round))
  }

  function decide(
    record: R | undefined,
    tokenHash: string,
    accepts: ReadonlySet<string>,
    cost: number,
    round: number,
  ): MaybePromise<Decision> {
    if (record === undefined || !accepts.has(record.ksid)) return UNKNOWN
    const wallMs = clock.wallMs()
    if (isExpired(record.expiresAtMs, wallMs)) {
      return { kind: 'expired', kid: record.kid, ksid: record.ksid }
    }
    const nowMs = clock.bucketMs()
    const result = buckets.take(record, cost, nowMs, wallMs)
    if (result instanceof Promise) {
      return result.then(
        (late) => toDecision(record, late, cost, nowMs) ?? askAgain(tokenHash, accepts, cost, round),
      )
    }
    return toDecision(record, result, cost, nowMs) ?? askAgain(tokenHash, accepts, cost, round)
  }

  /** The record is stale. */
  function askAgain(
    tokenHash: string,
    accepts: ReadonlySet<string>,
    cost: number,
    round: number,
  ): MaybePromise<Decision> {
    if (round === ROUNDS_MAX) throw new StoreUnavailable('a record stayed stale over all rounds')
    records.forget(tokenHash)
    return ask(tokenHash, accepts, cost, round + 1)
  }
}

/** `undefined`: the record is stale. */
function toDecision(
  record: KeyRecord,
  result: TakeResult,
  cost: number,
  callerMs: number,
): Decision | undefined {
  if (result.kind === 'stale') return undefined
  const nowMs = result.nowMs ?? callerMs
  const { kid, ksid, limit } = record
  const { remaining, lastRefilledMs } = result
  if (result.kind === 'taken' || limit === undefined) {
    return { kind: 'allowed', kid, ksid, limit, remaining, lastRefilledMs, nowMs }
  }
  const retryAfterMs = untilFits({ remaining, lastRefilledMs }, limit, nowMs, cost)
  return { kind: 'limited', kid, ksid, limit, remaining, lastRefilledMs, nowMs, retryAfterMs }
}
