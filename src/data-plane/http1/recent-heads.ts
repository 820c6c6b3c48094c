import type { Recollection } from '../../ports/transport.ts'
import type { Framing } from './framing.ts'
import { readLatin1 } from './latin1.ts'

/** A head, or its field section, that was found to be sound; `recollection` is for what follows from it. */
export interface RecentHead {
  /** All of it, with the empty line. */
  readonly bytes: Buffer
  readonly rawHeaders: readonly string[]
  readonly framing: Framing
  readonly recollection: Recollection
}

/** Longer heads are read anew each time; they are rare, and their text would have to be hashed. */
const LENGTH_MAX = 2048
const END = '\r\n\r\n'
/** What one generation holds: its texts, and for each of them what is kept beside it. */
const GENERATION_LENGTH_MAX = 1024 * 1024
const LENGTH_BESIDE = 512
/** Of so many heads one in eight must be a known one, or else nothing is looked up for a while. */
const JUDGED = 256
const KNOWN_MIN = JUDGED / 8
const PAUSE = 4096

/**
 * The heads of late, by their text: most clients and many upstreams say the same in each message,
 * but for the first line. Only what a strict parser has accepted is kept, and none of it ends in
 * another, so bytes that are found here need no second reading. Bounded, in two generations; where
 * heads do not come again, it stops looking for them.
 */
export class RecentHeads<T extends RecentHead> {
  #young = new Map<string, T>()
  #old = new Map<string, T>()
  #youngLength = 0
  #lookups = 0
  #known = 0
  #pause = 0

  /**
   * The head that the bytes from `start` on begin with, if it is a known one. `last` is the one that came
   * before on the same connection, which is tried first.
   */
  find(bytes: Buffer, start: number, end: number, last: T | undefined): T | undefined {
    if (last !== undefined && startsWith(bytes, start, end, last.bytes)) return last
    if (this.#isPaused()) return undefined
    const text = readLatin1(bytes, start, Math.min(end, start + LENGTH_MAX))
    const at = text.indexOf(END)
    if (at < 0) return undefined
    const key = text.slice(0, at + END.length)
    const found = this.#young.get(key) ?? this.#revive(key)
    if (found !== undefined) this.#known++
    return found
  }

  /** Whether a head of this length that was not found is worth keeping. */
  mayKeep(length: number): boolean {
    return this.#pause === 0 && length <= LENGTH_MAX
  }

  keep(head: T): T {
    this.#add(head.bytes.toString('latin1'), head)
    return head
  }

  #revive(key: string): T | undefined {
    const found = this.#old.get(key)
    return found && this.keep(found)
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

/** For `RecentHead.bytes`: not from Node's pool, of which a few bytes would hold on to 8 KiB. */
export function copyBytes(bytes: Buffer, start: number, end: number): Buffer {
  const copy = Buffer.allocUnsafeSlow(end - start)
  bytes.copy(copy, 0, start, end)
  return copy
}

function startsWith(bytes: Buffer, start: number, end: number, known: Buffer): boolean {
  const { length } = known
  return end - start >= length && bytes.compare(known, 0, length, start, start + length) === 0
}
