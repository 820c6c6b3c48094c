import type { Expiry } from '../domain/key.ts'

/** `unset` is Go's zero time, which stands for no time at all (contract section 5, point 5). */
export type ParsedTimestamp =
  | { readonly kind: 'instant'; readonly expiry: Expiry }
  | { readonly kind: 'unset' }
  | { readonly kind: 'invalid' }

const RFC_3339 =
  /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d{2}):(\d{2}))$/

const DAY_MS = 86_400_000
const FIRST_SECOND_MS = Date.parse('0000-01-01T00:00:00Z')
const LAST_SECOND_MS = Date.parse('9999-12-31T23:59:59Z')
const LAST_MS = LAST_SECOND_MS + 999
const ZERO_TIME_MS = Date.parse('0001-01-01T00:00:00Z')

const INVALID: ParsedTimestamp = { kind: 'invalid' }

/**
 * Reads an RFC 3339 time with at most nine fraction digits and any offset. The text of the result
 * is in UTC with the given fraction digits, so nothing is lost by the millisecond clock; its `ms`
 * is rounded up. The instant must lie in the years 0000 to 9999 of UTC. A leap second becomes the
 * second that follows it, because few clients can read `:60`.
 */
export function parseTimestamp(text: string): ParsedTimestamp {
  const match = RFC_3339.exec(text)
  if (match === null) return INVALID
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1, 7).map(Number)
  const offsetMinutes = parseOffsetMinutes(match[8], Number(match[9] ?? 0), Number(match[10] ?? 0))
  const dayMs = toDayMs(year, month, day)
  if (dayMs === undefined || offsetMinutes === undefined) return INVALID
  if (hour > 23 || minute > 59 || second > 60) return INVALID

  const wholeMs = dayMs + ((hour * 60 + minute - offsetMinutes) * 60 + second) * 1000
  if (second === 60 && wholeMs % DAY_MS !== 0) return INVALID
  if (wholeMs < FIRST_SECOND_MS || wholeMs > LAST_SECOND_MS) return INVALID
  return toParsed(wholeMs, match[7] ?? '')
}

/** For our own stamps: UTC with three fraction digits. Instants outside 1970 to 9999 are clamped. */
export function formatInstant(ms: number): string {
  return new Date(Math.min(Math.max(ms, 0), LAST_MS)).toISOString()
}

/** The expiry `expiresInMs` from now, at the latest at the end of the year 9999. */
export function toExpiry(nowMs: number, expiresInMs: number): Expiry {
  const ms = Math.min(nowMs + expiresInMs, LAST_MS)
  return { text: formatInstant(ms), ms }
}

function toParsed(wholeMs: number, fraction: string): ParsedTimestamp {
  const hasFraction = /[1-9]/.test(fraction)
  if (wholeMs === ZERO_TIME_MS && !hasFraction) return { kind: 'unset' }
  const millis = Number(fraction.slice(0, 3).padEnd(3, '0')) + (/[1-9]/.test(fraction.slice(3)) ? 1 : 0)
  const seconds = new Date(wholeMs).toISOString().slice(0, 19)
  const text = fraction === '' ? `${seconds}Z` : `${seconds}.${fraction}Z`
  return { kind: 'instant', expiry: { text, ms: wholeMs + millis } }
}

function parseOffsetMinutes(sign: string | undefined, hours: number, minutes: number): number | undefined {
  if (sign === undefined) return 0
  if (hours > 23 || minutes > 59) return undefined
  return (sign === '-' ? -1 : 1) * (hours * 60 + minutes)
}

/** Midnight of a date that exists; `Date.UTC` would read the years 0 to 99 as 1900 to 1999. */
function toDayMs(year: number, month: number, day: number): number | undefined {
  const date = new Date(0)
  date.setUTCFullYear(year, month - 1, day)
  return date.getUTCMonth() === month - 1 && date.getUTCDate() === day ? date.getTime() : undefined
}
