import type { PurgeCounters } from '../../ports/purge-counters.ts'
import { isServable } from './entry.ts'
import type { EntryStore } from './entry-store.ts'
import type { FlightEnd } from './flights.ts'
import type { CacheFromThread, CacheToThread, SharedItem } from './messages.ts'

const CLAIM_MS_MAX = 5_000
const CLAIMS_MAX = 4_096
const KEY_LENGTH_MAX = 4_096

interface Claim {
  readonly key: string
  readonly onAnswer: OnAnswer
  readonly timer: NodeJS.Timeout
}

type OnAnswer = (item: SharedItem | undefined, isAwaited: boolean) => void

/** The other threads, and the other nodes, as one thread sees them: through the control thread. */
export class Far {
  readonly #post: (message: CacheFromThread) => void
  readonly #store: EntryStore
  readonly #counters: PurgeCounters
  readonly #nowMs: () => number
  readonly #claims = new Map<number, Claim>()
  #lastId = 0

  constructor(options: {
    readonly post: (message: CacheFromThread) => void
    readonly store: EntryStore
    readonly counters: PurgeCounters
    readonly nowMs: () => number
  }) {
    this.#post = options.post
    this.#store = options.store
    this.#counters = options.counters
    this.#nowMs = options.nowMs
  }

  /**
   * Answers later, once: with what was found, or with nothing, which is the leave to fetch it. It
   * is `false`, and nothing comes, where nobody can be asked.
   */
  claim(key: string, newerThanMs: number, onAnswer: OnAnswer): boolean {
    return this.#ask('claim', key, newerThanMs, onAnswer)
  }

  /** Like `claim`, but waits for no fetch, and nothing found is no leave to do so. */
  look(key: string, newerThanMs: number, onAnswer: OnAnswer): boolean {
    return this.#ask('look', key, newerThanMs, onAnswer)
  }

  #ask(kind: 'claim' | 'look', key: string, newerThanMs: number, onAnswer: OnAnswer): boolean {
    if (this.#claims.size >= CLAIMS_MAX || key.length > KEY_LENGTH_MAX) return false
    const id = ++this.#lastId
    const timer = setTimeout(() => this.#answer(id), CLAIM_MS_MAX)
    this.#claims.set(id, { key, onAnswer, timer })
    this.#post({ kind, id, key, newerThanMs })
    return true
  }

  settle(key: string, end: FlightEnd, stored: readonly string[]): void {
    this.#post({ kind: 'settle', key, end, stored })
  }

  outdate(marks: readonly number[]): void {
    this.#post({ kind: 'outdate', marks })
  }

  receive(message: CacheToThread): void {
    switch (message.kind) {
      case 'granted':
        // Nobody waits for it any more: so it is given back.
        if (!this.#answer(message.id)) this.settle(message.key, 'abandoned', [])
        return
      case 'found':
        this.#answer(message.id, message.item, message.isAwaited)
        return
      case 'missing':
        this.#answer(message.id)
        return
      case 'want':
        this.#post({ kind: 'give', id: message.id, item: this.#find(message.key, message.newerThanMs) })
    }
  }

  #answer(id: number, item?: SharedItem, isAwaited = false): boolean {
    const claim = this.#claims.get(id)
    if (claim === undefined) return false
    this.#claims.delete(id)
    clearTimeout(claim.timer)
    if (item !== undefined) this.#store.set(claim.key, item)
    claim.onAnswer(item, isAwaited)
    return true
  }

  #find(key: string, newerThanMs: number): SharedItem | undefined {
    const item = this.#store.get(key)
    if (item === undefined || item.kind === 'pass') return undefined
    if (item.kind === 'vary') return item
    return item.bornMs > newerThanMs && isServable(item, this.#counters, this.#nowMs()) ? item : undefined
  }
}
