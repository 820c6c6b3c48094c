import type { Random } from '../ports/runtime.ts'

const BYTES_PER_TRACE = 24
const TRACES_PER_DRAW = 512
/** Of a trace id, the last digits decide whether it is sampled. */
const RATIO_DIGITS = 8

/**
 * Makes W3C traceparents with random ids, drawing random bytes for many of them at once.
 * `sampleRatio` of them, 0 to 1, are marked as sampled.
 */
export function createTraceparents(random: Random, sampleRatio: number): () => string {
  const sampledBelow = sampleRatio * 16 ** RATIO_DIGITS
  let digits = ''
  let at = 0

  return () => {
    if (at === digits.length) {
      digits = Buffer.from(random.bytes(BYTES_PER_TRACE * TRACES_PER_DRAW)).toString('hex')
      at = 0
    }
    const traceId = digits.slice(at, at + 32)
    const parentId = digits.slice(at + 32, at + 48)
    at += 2 * BYTES_PER_TRACE
    const isSampled = sampleRatio >= 1 || Number.parseInt(traceId.slice(-RATIO_DIGITS), 16) < sampledBelow
    return `00-${traceId}-${parentId}-${isSampled ? '01' : '00'}`
  }
}
