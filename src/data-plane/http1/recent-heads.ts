import type { Recollection } from '../../ports/transport.ts'
import type { Framing } from './framing.ts'

/** A head, or its field section, that was found to be sound; `recollection` is for what follows from it. */
export interface RecentHead {
  readonly rawHeaders: readonly string[]
  readonly framing: Framing
  readonly recollection: Recollection
}

/** Longer heads are read anew each time; they are rare, and their text would have to be hashed. */
export const RECENT_LENGTH_MAX = 2048

const HEAD_END = '\r\n\r\n'
/** What one generation holds: its texts, and for each of them what is kept beside it. */
const GENERATION_LENGTH_MAX = 1024 * 1024
const LENGTH_BESIDE = 512
/** Of so many heads one in eight must be a known one, or else nothing is looked up for a while. */
const JUDGED = 256
const KNOWN_MIN = JUDGED / 8
const PAUSE = 4096

/**
 * The heads of late, by their text: most clients and many upstreams say the same in each message,
 * but for the first line. Only what a strict parser has accepted is kept, so a text that is found
 * here needs no second reading. Bounded, in two generations; where heads do not come again, it
 * stops looking for them.
 */
export class RecentHeads<T extends RecentHead> {
  /** Of the head that was found last. */
  length = 0
  #young = new Map<string, T>()
  #old = new Map<string, T>()
  #youngLength = 0
  #lookups = 0
  #known = 0
  #pause = 0

  /**
   * The head that `text` holds from `start` on, up to and including the empty line, if it is a known
   * one. Its length is then in `length`.
   */
  find(text: string, start: number): T | undefined {
    this.length = 0
    if (this.#isPaused()) return undefined
    const end = text.indexOf(HEAD_END, start)
    if (end < 0) return undefined
    const key = text.slice(start, end + HEAD_END.length)
    const found = this.#young.get(key) ?? this.#revive(key)
    if (found === undefined) return undefined
    this.#known++
    this.length = key.length
    return found
  }

  mayKeep(text: string): boolean {
    return this.#pause === 0 && text.length <= RECENT_LENGTH_MAX
  }

  /** `text` is the whole of it, with the empty line. */
  keep(text: string, head: T): void {
    // A copy: the text may be a slice that keeps more alive.
    this.#add(Buffer.from(text, 'latin1').toString('latin1'), head)
  }

  #revive(key: string): T | undefined {
    const found = this.#old.get(key)
    if (found !== undefined) this.keep(key, found)
    return found
  }

  #add(key: string, head: T): void {
    if (this.#youngLength > GENERATION_LENGTH_MAX) {
      this.#old = this.#young
      this.#young = new Map()
      this.#youngLength = 0
    }
    this.#young.set(key, head)
    this.#youngLength += key.length + LENGTH_BESIDE
  }

  #isPaused(): boolean {
    if (this.#pause > 0) {
      this.#pause--
      return true
    }
    if (++this.#lookups < JUDGED) return false
    if (this.#known < KNOWN_MIN) this.#pause = PAUSE
    this.#lookups = 0
    this.#known = 0
    return false
  }
}
