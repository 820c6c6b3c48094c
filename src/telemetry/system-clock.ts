import { randomBytes } from 'node:crypto'
// The global of this name is a getter, which is read anew each time.
import { performance } from 'node:perf_hooks'
import type { Clock, Random } from '../ports/runtime.ts'

/** The same on every thread of a process: what `Date.now()` said when `hrtime` said this. */
export interface ClockAnchor {
  readonly wallMs: number
  readonly hrtimeMs: number
}

export function createClockAnchor(): ClockAnchor {
  return { wallMs: Date.now(), hrtimeMs: readHrtimeMs() }
}

/**
 * Bucket time starts at the wall clock of the process's start and then follows the monotonic clock,
 * which all threads share. So a wall clock that is set back or forth refills nothing.
 */
export function createSystemClock(anchor: ClockAnchor): Clock {
  const offsetMs = anchor.wallMs - anchor.hrtimeMs + (readHrtimeMs() - performance.now())
  return {
    bucketMs: () => Math.floor(performance.now() + offsetMs),
    wallMs: () => Date.now(),
  }
}

export const systemRandom: Random = { bytes: (n) => randomBytes(n) }

function readHrtimeMs(): number {
  const [seconds, nanoseconds] = process.hrtime()
  return seconds * 1000 + nanoseconds / 1e6
}
