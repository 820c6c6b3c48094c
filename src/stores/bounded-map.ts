/**
 * A map of at most `capacity` entries that keeps what was used lately. Two generations instead of
 * a list: a hit in the young one costs a single look-up, and the old one is dropped whole.
 */
export class BoundedMap<V> {
  readonly #halfMax: number
  #young = new Map<string, V>()
  #old = new Map<string, V>()

  constructor(capacity: number) {
    this.#halfMax = Math.max(1, Math.floor(capacity / 2))
  }

  get(key: string): V | undefined {
    const young = this.#young.get(key)
    if (young !== undefined) return young
    const old = this.#old.get(key)
    if (old !== undefined) this.set(key, old)
    return old
  }

  set(key: string, value: V): void {
    if (this.#young.size >= this.#halfMax && !this.#young.has(key)) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(key, value)
  }

  delete(key: string): void {
    this.#young.delete(key)
    this.#old.delete(key)
  }

  clear(): void {
    this.#young.clear()
    this.#old.clear()
  }

  /** What was used lately comes first; an entry that was moved may come twice. */
  *values(): Generator<V> {
    yield* this.#young.values()
    yield* this.#old.values()
  }

  get size(): number {
    return this.#young.size + this.#old.size
  }
}
