import { StoreUnavailable } from '../../ports/stores.ts'

const FAILURES_MAX = 5
const PROBE_EVERY_MS = 250
/** Probes in a row without an answer after which the connection itself is given up. */
const LOST_PROBES = 3

/**
 * Spares callers the wait for a Redis that does not answer: five failures in a row open it, however
 * far apart, and then one call in 250 ms goes through as a probe until one succeeds. One per thread.
 */
export class Breaker {
  readonly #onChange: (isOpen: boolean) => void
  readonly #onLost: () => void
  #failures = 0
  #isOpen = false
  #nextProbeAt = 0
  #probesFailed = 0

  /** `onLost`: the connection seems dead, as probes get no answer. */
  constructor(options: { readonly onChange: (isOpen: boolean) => void; readonly onLost: () => void }) {
    this.#onChange = options.onChange
    this.#onLost = options.onLost
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Whether `admits` would say yes, without taking the turn of a probe. */
  mayTry(): boolean {
    return !this.#isOpen || performance.now() >= this.#nextProbeAt
  }

  /** Whether a call may go out now. A caller that gets `true` must report how it went. */
  admits(): boolean {
    if (!this.#isOpen) return true
    const now = performance.now()
    if (now < this.#nextProbeAt) return false
    this.#nextProbeAt = now + PROBE_EVERY_MS
    return true
  }

  /** Runs `act` if it may go out, and counts how it went. */
  async guard<T>(act: () => Promise<T>): Promise<T> {
    if (!this.admits()) throw this.refusal()
    try {
      const result = await act()
      this.succeeded()
      return result
    } catch (error) {
      this.failed()
      throw error
    }
  }

  refusal(): StoreUnavailable {
    return new StoreUnavailable('Redis has failed and is being probed')
  }

  succeeded(): void {
    this.#probesFailed = 0
    this.#failures = 0
    if (this.#isOpen) this.#set(false)
  }

  failed(): void {
    if (this.#isOpen) {
      this.#probesFailed++
      if (this.#probesFailed % LOST_PROBES === 0) this.#onLost()
      return
    }
    this.#failures++
    if (this.#failures < FAILURES_MAX) return
    this.#nextProbeAt = performance.now() + PROBE_EVERY_MS
    this.#probesFailed = 0
    this.#set(true)
  }

  /** The connection is back: the next call may try it at once. */
  hint(): void {
    this.#nextProbeAt = 0
  }

  #set(isOpen: boolean): void {
    this.#isOpen = isOpen
    this.#onChange(isOpen)
  }
}
