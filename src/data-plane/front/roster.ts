const SEAT: unique symbol = Symbol('seat')

interface Seated {
  [SEAT]?: number | undefined
}

/**
 * What comes and goes by the thousand, each in one roster at most. A `Set` grows by making a new table,
 * to which the one before points; once one of them has become old, V8 keeps all that follow, with
 * everything that was ever in them, until it collects the whole heap.
 */
export class Roster<T extends object> implements Iterable<T> {
  readonly #members: (T & Seated)[] = []

  add(member: T & Seated): void {
    if (member[SEAT] !== undefined) return
    member[SEAT] = this.#members.length
    this.#members.push(member)
  }

  /** Whether it was there. */
  delete(member: T & Seated): boolean {
    const seat = member[SEAT]
    const last = this.#members.at(-1)
    if (seat === undefined || last === undefined) return false
    // Its place is taken by the last one.
    this.#members[seat] = last
    last[SEAT] = seat
    this.#members.pop()
    member[SEAT] = undefined
    return true
  }

  /** Those that are there now; they may go meanwhile. */
  [Symbol.iterator](): Iterator<T> {
    return this.#members.slice().values()
  }
}
