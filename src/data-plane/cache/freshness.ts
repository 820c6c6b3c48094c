import type { Directives } from './cache-control.ts'
import { secondsOf } from './cache-control.ts'
import { ageMsOf, type Entry, isFresh, mayServeWhileRevalidating } from './entry.ts'

/**
 * What becomes of a stored answer for one request: it is given, it is given while a new one is
 * fetched behind the client's back, or the upstream must be asked about it first.
 */
export type Verdict = 'give' | 'give-stale' | 'refresh' | 'validate'

/** RFC 9111 section 4, with what the client asks for (section 5.2.1). */
export function judgeStored(entry: Entry, directives: Directives, nowMs: number): Verdict {
  if (directives.size === 0) return judgeFreshness(entry, nowMs)
  if (directives.has('no-cache')) return 'validate'
  const ageMs = ageMsOf(entry, nowMs)
  const maxAge = secondsOf(directives, 'max-age')
  if (maxAge !== undefined && ageMs > maxAge * 1000) return 'validate'
  const minFresh = secondsOf(directives, 'min-fresh')
  if (minFresh !== undefined && entry.lifetimeMs - ageMs < minFresh * 1000) return 'validate'
  if (directives.has('max-stale') && !entry.mustRevalidate && !isFresh(entry, nowMs)) {
    const text = directives.get('max-stale')
    const staleMs = text === '' ? Number.POSITIVE_INFINITY : Number(text) * 1000
    if (ageMs - entry.lifetimeMs <= staleMs) return 'give-stale'
  }
  return judgeFreshness(entry, nowMs)
}

function judgeFreshness(entry: Entry, nowMs: number): Verdict {
  if (isFresh(entry, nowMs)) return 'give'
  return mayServeWhileRevalidating(entry, nowMs) ? 'refresh' : 'validate'
}
