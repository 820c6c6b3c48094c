/**
 * Tells when a retired slot may be used again: once every thread has answered a message that was
 * sent after the retirement. A thread answers from its event loop, so it cannot then be in the
 * middle of a `take` that began before; one that begins later sees the slot's new generation.
 */
export interface Member {
  /** Asks the thread to answer with `acknowledge(member, round)` from its event loop. */
  ask(round: number): void
}

export class Quiescence {
  readonly #members = new Set<Member>()
  readonly #unanswered = new Set<Member>()
  readonly #free: (slots: readonly number[]) => void
  #round = 0
  /** Retired since the running round began. */
  #next: number[] = []
  /** Free once the running round is answered. */
  #current: number[] = []

  constructor(free: (slots: readonly number[]) => void) {
    this.#free = free
  }

  join(member: Member): void {
    this.#members.add(member)
  }

  /** For a thread that ended; it holds nothing any more. */
  leave(member: Member): void {
    this.#members.delete(member)
    if (this.#unanswered.delete(member)) this.#finishIfAnswered()
  }

  retire(slot: number): void {
    this.#next.push(slot)
    if (this.#current.length === 0) this.#begin()
  }

  acknowledge(member: Member, round: number): void {
    if (round === this.#round && this.#unanswered.delete(member)) this.#finishIfAnswered()
  }

  #begin(): void {
    this.#round++
    this.#current = this.#next
    this.#next = []
    for (const member of this.#members) this.#unanswered.add(member)
    for (const member of this.#members) member.ask(this.#round)
    this.#finishIfAnswered()
  }

  #finishIfAnswered(): void {
    if (this.#unanswered.size > 0 || this.#current.length === 0) return
    this.#free(this.#current)
    this.#current = []
    if (this.#next.length > 0) this.#begin()
  }
}
