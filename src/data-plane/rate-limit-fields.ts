import { type Limit, refills } from '../domain/bucket.ts'
import { toDecimal } from '../domain/decimal.ts'
import type { Allowed, Limited } from '../domain/decision.ts'
import type { RawHeaders } from './raw-headers.ts'
import type { Route } from './route.ts'

/** The name of the one policy that a key has. */
export const POLICY_NAME = 'burst'

/** The largest Integer of a structured field (RFC 9651 section 3.3.1). */
const INTEGER_MAX = 999_999_999_999_999
const NONE: RawHeaders = []

/** Limits live as long as the records of their keys, so what is made of them may too. */
const policies = new WeakMap<Limit, string>()

/**
 * The raw list of fields that tell a client its limit, as the route asks for them: `RateLimit` and
 * `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers) and `X-RateLimit-*`, whose `-Reset` is
 * in seconds from now, the same as `t`. Empty for a key without a limit.
 */
export function buildRateLimitFields(route: Route, decision: Allowed | Limited): RawHeaders {
  const { limit } = decision
  if (limit === undefined || !(route.emitsIetf || route.emitsLegacy)) return NONE
  const remaining = toDecimal(Math.max(0, decision.remaining))
  const seconds = toRefillSeconds(limit, decision.lastRefilledMs, decision.nowMs)
  const fields = route.emitsIetf ? toIetfFields(limit, remaining, seconds) : []
  if (route.emitsLegacy) {
    fields.push('X-RateLimit-Limit', toDecimal(limit.capacity), 'X-RateLimit-Remaining', remaining)
    if (seconds !== undefined) fields.push('X-RateLimit-Reset', toDecimal(seconds))
  }
  return fields
}

function toIetfFields(limit: Limit, remaining: string, seconds: number | undefined): string[] {
  const reset = seconds === undefined ? '' : `;t=${toDecimal(seconds)}`
  return ['RateLimit-Policy', toPolicy(limit), 'RateLimit', `"${POLICY_NAME}";r=${remaining}${reset}`]
}

/** Value of `Retry-After`: whole seconds, at least 1; `undefined` where waiting does not help. */
export function toRetryAfter(retryAfterMs: number | undefined): string | undefined {
  return retryAfterMs === undefined ? undefined : toDecimal(toSeconds(retryAfterMs))
}

function toPolicy(limit: Limit): string {
  const known = policies.get(limit)
  if (known !== undefined) return known
  const policy = `"${POLICY_NAME}";q=${limit.capacity}${toWindow(limit)}`
  policies.set(limit, policy)
  return policy
}

/** Seconds from empty to full; refills come in whole steps, so the last one may overshoot. */
function toWindow(limit: Limit): string {
  if (!refills(limit)) return ''
  return `;w=${toSeconds(Math.ceil(limit.capacity / limit.rate) * limit.intervalMs)}`
}

/** Seconds to the next refill on the bucket's grid, also while it is full; `undefined` without any. */
function toRefillSeconds(limit: Limit, lastRefilledMs: number, nowMs: number): number | undefined {
  if (!refills(limit)) return undefined
  const waitMs = lastRefilledMs + limit.intervalMs - nowMs
  return toSeconds(waitMs > 0 ? waitMs : limit.intervalMs - ((nowMs - lastRefilledMs) % limit.intervalMs))
}

function toSeconds(durationMs: number): number {
  return Math.min(INTEGER_MAX, Math.max(1, Math.ceil(durationMs / 1000)))
}
