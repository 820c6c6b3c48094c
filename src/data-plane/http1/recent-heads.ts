import type { Recollection } from '../../ports/transport.ts'
import { LF } from './characters.ts'
import type { Framing } from './framing.ts'

/** A head, or its field section, that was found to be sound; `recollection` is for what follows from it. */
export interface RecentHead {
  /** All of it, with the empty line. */
  readonly bytes: Buffer
  readonly rawHeaders: readonly string[]
  readonly framing: Framing
  readonly recollection: Recollection
}

/** Longer heads are read anew each time; they are rare, and would have to be hashed. */
const LENGTH_MAX = 2048
/** What one generation may weigh, about in bytes: heads, and what is kept with each. */
const GENERATION_WEIGHT_MAX = 4 * 1024 * 1024
const WEIGHT_OF_HEAD = 2048
const WEIGHT_OF_BYTE = 8
/**
 * Of so many heads one in eight must be a known one, or else nothing is looked up for a while, and for
 * twice as long when it is no better after that: what is kept for nothing ends in the old generation.
 */
const JUDGED = 256
const KNOWN_MIN = JUDGED / 8
const PAUSE_MIN = 4096
const PAUSE_MAX = 64 * PAUSE_MIN

/**
 * The heads of late: most clients and many upstreams say the same in each message, but for the first
 * line. Only what a strict parser has accepted is kept, and none of it ends in another, so bytes that
 * are found here need no second reading. They are looked up by a weak hash, and then compared; of two
 * with one hash the later one stays. Bounded, in two generations; where heads do not come again, it
 * stops looking for them.
 */
export class RecentHeads<T extends RecentHead> {
  #young = new Map<number, T>()
  #old = new Map<number, T>()
  #youngWeight = 0
  #lookups = 0
  #known = 0
  /** Heads that are still not to be looked up, and how many it will be the next time. */
  #pause = 0
  #nextPause = PAUSE_MIN

  /**
   * The head that the bytes from `start` on begin with, if it is a known one. `last` is the one that came
   * before on the same connection, which is tried first.
   */
  find(bytes: Buffer, start: number, end: number, last: T | undefined): T | undefined {
    if (last !== undefined && startsWith(bytes, start, end, last.bytes)) return last
    if (this.#isPaused()) return undefined
    const hash = hashHead(bytes, start, Math.min(end, start + LENGTH_MAX))
    const found = this.#young.get(hash) ?? this.#revive(hash)
    if (found === undefined || !startsWith(bytes, start, end, found.bytes)) return undefined
    this.#known++
    return found
  }

  /** Whether a head of this length that was not found is worth keeping. */
  mayKeep(length: number): boolean {
    return this.#pause === 0 && length <= LENGTH_MAX
  }

  keep(head: T): T {
    this.#add(hashHead(head.bytes, 0, head.bytes.length), head)
    return head
  }

  #revive(hash: number): T | undefined {
    const found = this.#old.get(hash)
    if (found !== undefined) this.#add(hash, found)
    return found
  }

  #add(hash: number, head: T): void {
    if (this.#youngWeight > GENERATION_WEIGHT_MAX) {
      this.#old = this.#young
      this.#young = new Map()
      this.#youngWeight = 0
    }
    this.#young.set(hash, head)
    this.#youngWeight += WEIGHT_OF_HEAD + WEIGHT_OF_BYTE * head.bytes.length
  }

  #isPaused(): boolean {
    if (this.#pause > 0) {
      this.#pause--
      return true
    }
    if (++this.#lookups < JUDGED) return false
    if (this.#known < KNOWN_MIN) {
      this.#pause = this.#nextPause
      this.#nextPause = Math.min(2 * this.#nextPause, PAUSE_MAX)
    } else {
      this.#nextPause = PAUSE_MIN
    }
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

/** Of all up to the first empty line. */
function hashHead(bytes: Buffer, start: number, end: number): number {
  let hash = 0
  let lineStart = start
  for (let at = start; at < end; at++) {
    const byte = bytes[at] ?? 0
    hash = (Math.imul(hash, 31) + byte) | 0
    if (byte !== LF) continue
    if (at - lineStart === 1) break
    lineStart = at + 1
  }
  return hash
}

function startsWith(bytes: Buffer, start: number, end: number, known: Buffer): boolean {
  const { length } = known
  return end - start >= length && bytes.compare(known, 0, length, start, start + length) === 0
}
