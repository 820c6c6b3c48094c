/*
 * What all threads know of the health of targets and upstreams, in shared memory: one cell for each
 * address of a target, and one for the circuit of each upstream. Data-plane threads look at one
 * word before they send a request, and write only when something fails or comes back; the control
 * thread writes what the active checks find.
 */

/** Addresses of targets and upstreams together, in one process. */
export const CELLS_MAX = 16_384
/** A cache line, so that news of one target does not slow down the threads that look at another. */
const CELL_BYTES = 64
const INTS = CELL_BYTES / Int32Array.BYTES_PER_ELEMENT
const FLOATS = CELL_BYTES / Float64Array.BYTES_PER_ELEMENT

/** Integers of a cell. */
const STATUS = 0
const FAILURES = 1
const STREAK = 2
const CAUSE = 3
const EJECTIONS = 4
const RETRIES = 5
const RETRIES_REFUSED = 6
/** Numbers of a cell, behind its integers. */
const TRIAL_UNTIL = 5
const UNTIL = 6
const LASTED = 7

/** Values of `STATUS`; `DOWN` may stand beside each of the others. */
const UP = 0
const OUT = 1
const TRIAL = 2
const DOWN = 4

/** A trial that nobody told the outcome of, such as that of a client who left, is over after this. */
const TRIAL_MS = 5000

export type HealthMemory = SharedArrayBuffer

/** Zero means healthy. 1 MiB, of which the system backs only what is touched. */
export function createHealthMemory(): HealthMemory {
  return new SharedArrayBuffer(CELLS_MAX * CELL_BYTES)
}

export interface Backoff {
  /** Of the first time; each further time in a row doubles it. */
  readonly ms: number
  readonly msMax: number
}

/**
 * One cell, as one thread sees it. What it stands for is up; or out for a time, then on trial by
 * one request at a time; or down, as the active checks say. Times are the clock's `bucketMs`.
 */
export class HealthCell {
  readonly #ints: Int32Array
  readonly #floats: Float64Array

  constructor(memory: HealthMemory, slot: number) {
    this.#ints = new Int32Array(memory, slot * CELL_BYTES, INTS)
    this.#floats = new Float64Array(memory, slot * CELL_BYTES, FLOATS)
  }

  /** Forgets everything, for a new owner. */
  reset(): void {
    this.#ints.fill(0)
    this.#floats.fill(0)
  }

  get isUp(): boolean {
    return this.#ints[STATUS] === UP
  }

  /** Up, and the last request did not fail. */
  get isSpotless(): boolean {
    return this.#ints[FAILURES] === 0
  }

  get isOut(): boolean {
    return ((this.#ints[STATUS] ?? UP) & (OUT | TRIAL)) !== 0
  }

  get isOnTrial(): boolean {
    return this.#ints[STATUS] === TRIAL
  }

  get isDown(): boolean {
    return ((this.#ints[STATUS] ?? UP) & DOWN) !== 0
  }

  /** What has no connection is proved well by any answer; what answers badly is not. */
  get isOutUnreachable(): boolean {
    return this.isOut && this.#ints[CAUSE] === 1
  }

  /** How long it is still out; 0 where it is not, or is on trial. */
  outMs(nowMs: number): number {
    if (((this.#ints[STATUS] ?? UP) & OUT) === 0) return 0
    return Math.max(0, (this.#floats[UNTIL] ?? 0) - nowMs)
  }

  /** Whether the caller may send the one request that shows if it is back; `isEarly`: before its time. */
  mayTry(nowMs: number, isEarly = false): boolean {
    // The outcome of the last trial never came.
    if (nowMs >= (this.#floats[TRIAL_UNTIL] ?? 0)) this.#exchange(TRIAL, OUT)
    const isDue = nowMs >= (this.#floats[UNTIL] ?? 0)
    if (!(isDue || isEarly) || this.#ints[STATUS] !== OUT) return false
    this.#floats[TRIAL_UNTIL] = nowMs + TRIAL_MS
    return this.#exchange(OUT, TRIAL)
  }

  /** Whether that brought it back. While it is out, old news does not count. */
  succeed(): boolean {
    if (((this.#ints[STATUS] ?? UP) & OUT) !== 0) return false
    Atomics.store(this.#ints, FAILURES, 0)
    return this.#exchange(TRIAL, UP)
  }

  /** Gives the failures in a row. */
  fail(): number {
    return Atomics.add(this.#ints, FAILURES, 1) + 1
  }

  /**
   * Takes it out for a time that doubles as long as it does not stay well in between. Gives that
   * time; 0 where somebody else was quicker, or where an early trial failed: that is no news, and
   * its time goes on as it was.
   */
  eject(nowMs: number, backoff: Backoff, isUnreachable: boolean): number {
    const status = this.#ints[STATUS] ?? UP
    if (status !== UP && status !== TRIAL) return 0
    const lastedMs = this.#floats[LASTED] ?? 0
    if (status === TRIAL && nowMs < (this.#floats[UNTIL] ?? 0)) {
      this.#exchange(TRIAL, OUT)
      return 0
    }
    const isAgain = status === TRIAL || nowMs - (this.#floats[UNTIL] ?? 0) < lastedMs
    const streak = isAgain ? (this.#ints[STREAK] ?? 0) + 1 : 0
    const ms = Math.min(backoff.msMax, backoff.ms * 2 ** Math.min(streak, 30))
    this.#floats[UNTIL] = nowMs + ms
    if (!this.#exchange(status, OUT)) return 0
    this.#floats[LASTED] = ms
    this.#ints[STREAK] = streak
    this.#ints[CAUSE] = isUnreachable ? 1 : 0
    Atomics.add(this.#ints, EJECTIONS, 1)
    return ms
  }

  /** Ends being out or on trial, and forgets the failures. Whether it was. */
  restore(): boolean {
    Atomics.store(this.#ints, FAILURES, 0)
    return this.#exchange(OUT, UP) || this.#exchange(TRIAL, UP)
  }

  /** What the active checks say. Whether that is news. */
  setDown(isDown: boolean): boolean {
    const before = isDown ? Atomics.or(this.#ints, STATUS, DOWN) : Atomics.and(this.#ints, STATUS, ~DOWN)
    return ((before & DOWN) !== 0) !== isDown
  }

  countRetry(isRefused: boolean): void {
    Atomics.add(this.#ints, isRefused ? RETRIES_REFUSED : RETRIES, 1)
  }

  get figures(): { readonly ejections: number; readonly retries: number; readonly retriesRefused: number } {
    const [ejections = 0, retries = 0, retriesRefused = 0] = this.#ints.subarray(EJECTIONS)
    return { ejections, retries, retriesRefused }
  }

  #exchange(from: number, to: number): boolean {
    return Atomics.compareExchange(this.#ints, STATUS, from, to) === from
  }
}
