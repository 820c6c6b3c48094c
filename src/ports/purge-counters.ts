import { ALL_MARK, MARKS } from '../domain/purge-marks.ts'

/** In memory that all threads of a process share; plain data, to be given to threads. */
export interface PurgeMemory {
  readonly buffer: SharedArrayBuffer
}

const TICKET = 0
const DONE = 1
const LEASE = 2
const FAR = 3
const COUNTERS = 4
const NO_END = 2n ** 62n

export function createPurgeMemory(): PurgeMemory {
  const buffer = new SharedArrayBuffer((COUNTERS + MARKS) * BigInt64Array.BYTES_PER_ELEMENT)
  return { buffer }
}

/**
 * The counters that purges raise. Each raise takes the next ticket, writes it to the counters of
 * its marks, and then counts itself as done. Whoever fetches an answer notes `sequence()` first:
 * the answer is untouched as long as no counter of its marks holds a ticket above that number.
 * So one step reaches all threads, and an answer that was on its way is out of date when it comes.
 *
 * A raise that returned is seen by everyone; one under way counts as done before or after.
 */
export class PurgeCounters {
  readonly #cells: BigInt64Array

  constructor(memory: PurgeMemory) {
    this.#cells = new BigInt64Array(memory.buffer)
  }

  /** Raises that are done. While it stays the same, nothing that was untouched has been touched. */
  sequence(): bigint {
    return Atomics.load(this.#cells, DONE)
  }

  raise(marks: readonly number[]): void {
    const ticket = Atomics.add(this.#cells, TICKET, 1n) + 1n
    for (const mark of marks) this.#lift(COUNTERS + mark, ticket)
    // Never above the number of tickets: then a ticket up to it was taken before it was read.
    Atomics.add(this.#cells, DONE, 1n)
  }

  isUntouched(marks: Iterable<number>, since: bigint): boolean {
    if (Atomics.load(this.#cells, COUNTERS + ALL_MARK) > since) return false
    for (const mark of marks) {
      if (Atomics.load(this.#cells, COUNTERS + mark) > since) return false
    }
    return true
  }

  /**
   * Until when, on the clock of buckets, cached answers may be served: as long as a purge by
   * another node would wait for this one. For ever where there are no other nodes.
   */
  get leaseEndMs(): number {
    return Number(Atomics.load(this.#cells, LEASE))
  }

  setLease(endMs: number): void {
    Atomics.store(this.#cells, LEASE, endMs === Number.POSITIVE_INFINITY ? NO_END : BigInt(Math.floor(endMs)))
  }

  /** The last purge of all nodes that has been applied here, in their common numbers; 0 without others. */
  get farSequence(): number {
    return Number(Atomics.load(this.#cells, FAR))
  }

  setFarSequence(sequence: number): void {
    Atomics.store(this.#cells, FAR, BigInt(sequence))
  }

  #lift(cell: number, ticket: bigint): void {
    let before = Atomics.load(this.#cells, cell)
    while (before < ticket) {
      const found = Atomics.compareExchange(this.#cells, cell, before, ticket)
      if (found === before) return
      before = found
    }
  }
}
