import { type BucketState, convert, type Limit, sameLimit } from '../../domain/bucket.ts'
import { parseLimitText } from './records.ts'

const STATE = /^(?:1 (-?\d+) (-?\d+)|2 (-?\d+) (-?\d+) \d+ \d+) (\d+ \d+ \d+) (\d+)$/

/**
 * A bucket's text, as buckets.lua writes it, in terms of `limit`; `undefined` for a full one, and
 * for whatever is no bucket. Tokens out on lease count as used.
 */
export function parseBucket(
  text: string | null,
  key: { readonly limit: Limit | undefined; readonly createdAtMs: number },
): BucketState | undefined {
  const found = STATE.exec(text ?? '')
  if (found === null) return undefined
  const state = { remaining: Number(found[1] ?? found[3]), lastRefilledMs: Number(found[2] ?? found[4]) }
  const from = parseLimitText(found[5] ?? '')
  if (sameLimit(from, key.limit)) return state
  return convert(
    state,
    { from, to: key.limit },
    key.createdAtMs,
    Math.max(Number(found[6]), state.lastRefilledMs),
  )
}
