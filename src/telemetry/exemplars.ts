import { isSampled, toTraceId } from '../domain/traceparent.ts'

/*
 * One example for each bucket of each histogram: the trace of a request that fell into it. They are in
 * memory that all threads share; each data-plane thread writes its own region, the control thread reads.
 */

export interface Exemplar {
  readonly traceId: string
  /** What was observed, in seconds. */
  readonly seconds: number
  readonly timeMs: number
}

export type Exemplars = ReturnType<typeof openExemplars>

const MIN_AGE_MS = 1000
/** A slot: its version (odd while it is written), the trace id, and two doubles behind them. */
const SLOT_BYTES = 40
const WORDS = SLOT_BYTES / Int32Array.BYTES_PER_ELEMENT
const DOUBLES = SLOT_BYTES / Float64Array.BYTES_PER_ELEMENT
const TRACE_WORD = 1
const TRACE_WORDS = 4
const SECONDS_DOUBLE = 3
const TIME_DOUBLE = 4

export function exemplarBytes(slots: number): number {
  return slots * SLOT_BYTES
}

/** `buffer` from `offset` on is the region of one thread; only that thread may write to it. */
export function openExemplars(buffer: SharedArrayBuffer, offset: number, slots: number) {
  const words = new Int32Array(buffer, offset, slots * WORDS)
  const doubles = new Float64Array(buffer, offset, slots * DOUBLES)
  return { keep, find }

  /** Takes note of a request for a slot, if its trace is sampled: at most once a second for each slot. */
  function keep(slot: number, traceparent: string, seconds: number, timeMs: number): void {
    const lastMs = doubles[slot * DOUBLES + TIME_DOUBLE] ?? 0
    if (Math.abs(timeMs - lastMs) < MIN_AGE_MS || !isSampled(traceparent)) return
    const traceId = toTraceId(traceparent)
    const at = slot * WORDS
    // Even, though a thread may have died while it wrote here.
    const version = (words[at] ?? 0) & ~1
    Atomics.store(words, at, version + 1)
    for (let word = 0; word < TRACE_WORDS; word++) {
      Atomics.store(words, at + TRACE_WORD + word, Number.parseInt(traceId.slice(word * 8, word * 8 + 8), 16))
    }
    doubles[slot * DOUBLES + SECONDS_DOUBLE] = seconds > 0 ? seconds : 0
    doubles[slot * DOUBLES + TIME_DOUBLE] = timeMs
    Atomics.store(words, at, version + 2)
  }

  /** Nothing where none was kept, or while one is written. */
  function find(slot: number): Exemplar | undefined {
    const at = slot * WORDS
    const version = Atomics.load(words, at)
    if (version === 0 || version % 2 !== 0) return undefined
    let traceId = ''
    for (let word = 0; word < TRACE_WORDS; word++) {
      const part = Atomics.load(words, at + TRACE_WORD + word) >>> 0
      traceId += part.toString(16).padStart(8, '0')
    }
    const seconds = doubles[slot * DOUBLES + SECONDS_DOUBLE] ?? 0
    const timeMs = doubles[slot * DOUBLES + TIME_DOUBLE] ?? 0
    return Atomics.load(words, at) === version ? { traceId, seconds, timeMs } : undefined
  }
}
