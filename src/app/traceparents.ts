import type { Random } from '../ports/runtime.ts'

const DIGITS_PER_TRACE = 32
const DIGITS_PER_SPAN = 16
const IDS_PER_DRAW = 512
/** Of a trace id, the last digits decide whether it is sampled. */
const RATIO_DIGITS = 8

/**
 * Makes W3C traceparents with random ids, drawing random bytes for many of them at once.
 * `sampleRatio` of them, 0 to 1, are marked as sampled.
 */
export function createTraceparents(random: Random, sampleRatio: number): () => string {
  const sampledBelow = sampleRatio * 16 ** RATIO_DIGITS
  const drawDigits = createDigits(random, DIGITS_PER_TRACE + DIGITS_PER_SPAN)

  return () => {
    const digits = drawDigits()
    const traceId = digits.slice(0, DIGITS_PER_TRACE)
    const isSampled = sampleRatio >= 1 || Number.parseInt(traceId.slice(-RATIO_DIGITS), 16) < sampledBelow
    return `00-${traceId}-${digits.slice(DIGITS_PER_TRACE)}-${isSampled ? '01' : '00'}`
  }
}

/** Makes random ids of spans, 16 hex digits each. */
export function createSpanIds(random: Random): () => string {
  return createDigits(random, DIGITS_PER_SPAN)
}

/** Gives `length` random hex digits at a time. */
function createDigits(random: Random, length: number): () => string {
  let digits = ''
  let at = 0

  return () => {
    if (at === digits.length) {
      digits = Buffer.from(random.bytes((length / 2) * IDS_PER_DRAW)).toString('hex')
      at = 0
    }
    at += length
    return digits.slice(at - length, at)
  }
}
