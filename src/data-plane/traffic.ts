/** What is counted and compared at once; retries are measured against two windows. */
export const WINDOW_MS = 10_000

export interface RetryRule {
  /** Most times that one request, once sent, is sent again. */
  readonly max: number
  /** Most of these, in percent of the requests of the last windows. */
  readonly percent: number
  /** As many of them are always free, in the last windows. */
  readonly min: number
}

/** What one thread has lately sent to one upstream. Times are `performance.now()`. */
export class Traffic {
  /** In the present window; all attempts of one request count once. */
  requests = 0
  /** Those that ended in a failure of the upstream as a whole. */
  failures = 0
  #retries = 0
  #requestsBefore = 0
  #retriesBefore = 0
  #endsAtMs = 0

  countRequest(nowMs: number): void {
    if (nowMs >= this.#endsAtMs) this.#turn(nowMs)
    this.requests++
  }

  /** Takes one retry from the budget, if there is any left. */
  takeRetry(rule: RetryRule, nowMs: number): boolean {
    if (nowMs >= this.#endsAtMs) this.#turn(nowMs)
    const requests = this.#requestsBefore + this.requests
    const retries = this.#retriesBefore + this.#retries
    if (retries >= rule.min + Math.floor((requests * rule.percent) / 100)) return false
    this.#retries++
    return true
  }

  #turn(nowMs: number): void {
    // After a pause the window before the last one is old too.
    const isOld = nowMs >= this.#endsAtMs + WINDOW_MS
    this.#requestsBefore = isOld ? 0 : this.requests
    this.#retriesBefore = isOld ? 0 : this.#retries
    this.requests = 0
    this.failures = 0
    this.#retries = 0
    this.#endsAtMs = nowMs + WINDOW_MS
  }
}
