/*
 * Deadlines of connections by one coarse clock. Setting or clearing one is an assignment; nothing
 * is allocated for a request, and no timer of the runtime is started.
 */

/** How long a tick lasts; a limit holds to within two of them, and never ends early. */
export const TICK_MS = 100
const SLOTS = 16
const NEVER = Number.MAX_SAFE_INTEGER

/** Something with a deadline. The wheel writes the fields, `arm` and `disarm` change them. */
export interface Timed {
  /** Tick at which the limit is over. */
  deadline: number
  /** Tick at which the wheel looks at it next. */
  nextCheck: number
  /** The limit is over. It is disarmed before the call. */
  onDeadline(): void
}

/** What the fields of something new hold. */
export const UNARMED = NEVER

/**
 * Looks at everything armed at least once in `SLOTS` ticks. Ticks are counted rather than time, so
 * a stall of the event loop does not take away what a peer had left to answer.
 */
export class TimerWheel {
  #tick = 0
  #members = 0
  #interval: NodeJS.Timeout | undefined
  readonly #slots: Timed[][] = Array.from({ length: SLOTS }, () => [])

  /** Sets the deadline anew; 0 ms is none. */
  arm(timed: Timed, limitMs: number): void {
    if (limitMs <= 0) {
      timed.deadline = NEVER
      return
    }
    timed.deadline = this.#tick + 1 + Math.ceil(limitMs / TICK_MS)
    if (timed.deadline < timed.nextCheck) this.#insert(timed)
  }

  disarm(timed: Timed): void {
    timed.deadline = NEVER
  }

  #insert(timed: Timed): void {
    // One that waits in a later slot stays there too; it is passed over when its turn comes.
    timed.nextCheck = Math.min(timed.deadline, this.#tick + SLOTS - 1)
    this.#slots[timed.nextCheck % SLOTS]?.push(timed)
    this.#members++
    this.#interval ??= setInterval(() => this.#turn(), TICK_MS).unref()
  }

  #turn(): void {
    const slot = ++this.#tick % SLOTS
    const due = this.#slots[slot] ?? []
    this.#slots[slot] = []
    this.#members -= due.length
    for (const timed of due) this.#check(timed)
    if (this.#members > 0) return
    clearInterval(this.#interval)
    this.#interval = undefined
  }

  #check(timed: Timed): void {
    if (timed.nextCheck !== this.#tick) return
    timed.nextCheck = NEVER
    if (timed.deadline <= this.#tick) {
      timed.deadline = NEVER
      timed.onDeadline()
    } else if (timed.deadline !== NEVER) {
      this.#insert(timed)
    }
  }
}
