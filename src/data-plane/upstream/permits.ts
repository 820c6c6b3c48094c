/** Most requests that wait for a connection to one target, in one thread. */
const WAITING_MAX = 1024

export interface PermitHolder {
  /** Longest wait for a permit. */
  readonly waitMs: number
  onPermit(): void
  /** No permit: the queue is full, or the wait was too long. */
  onNoPermit(): void
}

interface Waiting {
  readonly holder: PermitHolder
  readonly timer: NodeJS.Timeout
}

/** Bounds the requests in flight to one target. First come, first served. */
export class Permits {
  readonly #max: number
  readonly #waiting: Waiting[] = []
  #inUse = 0
  #onIdle: (() => void) | undefined

  constructor(max: number) {
    this.#max = max
  }

  /** Calls `onPermit` at once or later, or `onNoPermit` later. */
  acquire(holder: PermitHolder): void {
    if (this.#inUse < this.#max) {
      this.#inUse++
      holder.onPermit()
    } else if (this.#waiting.length >= WAITING_MAX) {
      queueMicrotask(() => holder.onNoPermit())
    } else {
      const timer = setTimeout(() => {
        this.cancel(holder)
        holder.onNoPermit()
      }, holder.waitMs)
      this.#waiting.push({ holder, timer })
    }
  }

  /** Forgets one that waits; whoever holds a permit releases it instead. */
  cancel(holder: PermitHolder): void {
    const index = this.#waiting.findIndex((waiting) => waiting.holder === holder)
    if (index < 0) return
    const [waiting] = this.#waiting.splice(index, 1)
    clearTimeout(waiting?.timer)
  }

  release(): void {
    const next = this.#waiting.shift()
    if (next !== undefined) {
      clearTimeout(next.timer)
      next.holder.onPermit()
      return
    }
    this.#inUse--
    if (this.#inUse === 0) this.#onIdle?.()
  }

  /** Resolves when no permit is in use. */
  whenIdle(): Promise<void> {
    if (this.#inUse === 0) return Promise.resolve()
    return new Promise((resolve) => {
      this.#onIdle = resolve
    })
  }
}
