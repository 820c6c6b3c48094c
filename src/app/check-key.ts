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

  return (tokenHash, accepts, cost) => {
    const record = records.find(tokenHash)
    if (!(record instanceof Promise)) {
      const decision = decide(record, accepts, cost)
      if (decision !== undefined && !(decision instanceof Promise)) return decision
      return decideInRounds(tokenHash, accepts, cost, decision)
    }
    return decideInRounds(
      tokenHash,
      accepts,
      cost,
      record.then((found) => decide(found, accepts, cost)),
    )
  }

  /** `undefined`: the record is stale, ask again. */
  function decide(
    record: R | undefined,
    accepts: ReadonlySet<string>,
    cost: number,
  ): MaybePromise<Decision | undefined> {
    if (record === undefined || !accepts.has(record.ksid)) return UNKNOWN
    const wallMs = clock.wallMs()
    if (isExpired(record.expiresAtMs, wallMs)) {
      return { kind: 'expired', kid: record.kid, ksid: record.ksid }
    }
    const nowMs = clock.bucketMs()
    const result = buckets.take(record, cost, nowMs, wallMs)
    if (result instanceof Promise) return result.then((late) => toDecision(record, late, cost, nowMs))
    return toDecision(record, result, cost, nowMs)
  }

  async function decideInRounds(
    tokenHash: string,
    accepts: ReadonlySet<string>,
    cost: number,
    first: MaybePromise<Decision | undefined>,
  ): Promise<Decision> {
    let decision = await first
    for (let round = 1; decision === undefined; round++) {
      if (round > ROUNDS_MAX) throw new StoreUnavailable('a record stayed stale over all rounds')
      records.forget(tokenHash)
      decision = await decide(await records.find(tokenHash), accepts, cost)
    }
    return decision
  }
}

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
