import type { Limit } from './bucket.ts'

/** What a check found. A denial is a value; an exception means that something broke. */
export type Decision = Allowed | Limited | Unknown | Expired

export interface Allowed {
  readonly kind: 'allowed'
  readonly kid: string
  readonly ksid: string
  /** `undefined`: the key has no limit, and `remaining` and `lastRefilledMs` mean nothing. */
  readonly limit: Limit | undefined
  readonly remaining: number
  readonly lastRefilledMs: number
  /** When the check was decided, by the limiter's clock. */
  readonly nowMs: number
}

export interface Limited {
  readonly kind: 'limited'
  readonly kid: string
  readonly ksid: string
  readonly limit: Limit
  readonly remaining: number
  readonly lastRefilledMs: number
  readonly nowMs: number
  /** `undefined` when waiting does not help: the bucket never refills, or never holds the cost. */
  readonly retryAfterMs: number | undefined
}

/** No such token, a deleted one, or one of a keyspace that the caller did not ask about. */
export interface Unknown {
  readonly kind: 'unknown'
}

export interface Expired {
  readonly kind: 'expired'
  readonly kid: string
  readonly ksid: string
}
