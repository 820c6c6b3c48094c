/*
 * Deadlines of connections by one coarse clock. Setting or clearing one is an assignment; nothing
 * is allocated for a request, and no timer of the runtime is started.
 */

/** How long a tick lasts; a limit holds to within two of them, and never ends early. */
export const TICK_MS = 100
const SLOTS = 16
/** Above all ticks of six years; small enough to be kept without a box of its own. */
const NEVER = 2 ** 31 - 1

export interface Timed {
  /** The limit is over. It is disarmed before the call. */
  onDeadline(): void
}

/**
 * The deadline of one owner. The wheel holds on to it for a second and a half after it was disarmed;
 * what is behind it can go at once when it is released.
 */
export class Deadline {
  /** Tick at which the limit is over; written by the wheel. */
  at: number = NEVER
  /** Tick at which the wheel looks at it next; likewise. */
  nextCheck: number = NEVER
  #owner: Timed | undefined

  constructor(owner: Timed) {
    this.#owner = owner
  }

  /** For good: the owner is gone. */
  release(): void {
    this.at = NEVER
    this.#owner = undefined
  }

  pass(): void {
    this.#owner?.onDeadline()
  }
}

/**
 * Looks at everything armed at least once in `SLOTS` ticks. Ticks are counted rather than time, so
 * a stall of the event loop does not take away what a peer had left to answer.
 */
export class TimerWheel {
  #tick = 0
  #members = 0
  #interval: NodeJS.Timeout | undefined
  readonly #slots: Deadline[][] = Array.from({ length: SLOTS }, () => [])

  /** Sets the deadline anew; 0 ms is none. */
  arm(deadline: Deadline, limitMs: number): void {
    if (limitMs <= 0) {
      deadline.at = NEVER
      return
    }
    deadline.at = this.#tick + 1 + Math.ceil(limitMs / TICK_MS)
    if (deadline.at < deadline.nextCheck) this.#insert(deadline)
  }

  disarm(deadline: Deadline): void {
    deadline.at = NEVER
  }

  #insert(deadline: Deadline): void {
    // One that waits in a later slot stays there too; it is passed over when its turn comes.
    deadline.nextCheck = Math.min(deadline.at, this.#tick + SLOTS - 1)
    this.#slots[deadline.nextCheck % SLOTS]?.push(deadline)
    this.#members++
    this.#interval ??= setInterval(() => this.#turn(), TICK_MS).unref()
  }

  #turn(): void {
    const slot = ++this.#tick % SLOTS
    const due = this.#slots[slot] ?? []
    this.#slots[slot] = []
    this.#members -= due.length
    for (const deadline of due) this.#check(deadline)
    if (this.#members > 0) return
    clearInterval(this.#interval)
    this.#interval = undefined
  }

  #check(deadline: Deadline): void {
    if (deadline.nextCheck !== this.#tick) return
    deadline.nextCheck = NEVER
    if (deadline.at <= this.#tick) {
      deadline.at = NEVER
      deadline.pass()
    } else if (deadline.at !== NEVER) {
      this.#insert(deadline)
    }
  }
}
