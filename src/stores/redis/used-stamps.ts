import type { Connection } from './connection.ts'
import type { Layout } from './layout.ts'
import type { RedisRecord } from './records.ts'

const FLUSH_EVERY_MS = 250
/** Stamps that wait; more are written down at once, or forgotten while Redis is away. */
const STAMPS_MAX = 65_536
const FIELDS_PER_CALL = 1_000
const TIMEOUT_MS = 1_000

/** When keys were last used, written down together four times a second: nobody decides by it. */
export class UsedStamps {
  readonly #connection: Connection
  readonly #layout: Layout
  readonly #timer: NodeJS.Timeout
  /** By shard, kid → instant. */
  #waiting = new Map<number, Map<string, number>>()
  /** What the running flush has sent, and Redis may not have yet. */
  #sent: ReadonlyMap<number, ReadonlyMap<string, number>> = new Map()
  #flushing: Promise<void> | undefined
  #count = 0

  constructor(connection: Connection, layout: Layout) {
    this.#connection = connection
    this.#layout = layout
    this.#timer = setInterval(() => void this.flush(), FLUSH_EVERY_MS)
    this.#timer.unref()
  }

  stamp({ shard, kid }: RedisRecord, wallMs: number): void {
    let stamps = this.#waiting.get(shard)
    if (stamps === undefined) {
      stamps = new Map()
      this.#waiting.set(shard, stamps)
    }
    const before = stamps.size
    stamps.set(kid, wallMs)
    this.#count += stamps.size - before
    if (this.#count >= STAMPS_MAX) void this.flush()
  }

  /** A stamp that is not written down yet. */
  waiting(shard: number, kid: string): number | undefined {
    return this.#waiting.get(shard)?.get(kid) ?? this.#sent.get(shard)?.get(kid)
  }

  forget(shard: number, kid: string): void {
    this.#waiting.get(shard)?.delete(kid)
  }

  /** Never rejects; what cannot be written is forgotten. One at a time. */
  async flush(): Promise<void> {
    if (this.#flushing !== undefined) return this.#flushing
    this.#flushing = this.#send().finally(() => {
      this.#flushing = undefined
    })
    return this.#flushing
  }

  async #send(): Promise<void> {
    const sent = this.#waiting
    this.#sent = sent
    this.#waiting = new Map()
    this.#count = 0
    const calls: Promise<unknown>[] = []
    for (const [shard, stamps] of sent) {
      const fields = [...stamps].flat()
      for (let start = 0; start < fields.length; start += 2 * FIELDS_PER_CALL) {
        const part = fields.slice(start, start + 2 * FIELDS_PER_CALL)
        calls.push(this.#connection.call(TIMEOUT_MS, 'HSET', [this.#layout.used(shard), ...part]))
      }
    }
    await Promise.allSettled(calls)
    this.#sent = new Map()
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    // One may be running; what came after it began goes with the next.
    await this.flush()
    await this.flush()
  }
}
