import type { CacheFigures } from '../../ports/cache-figures.ts'
import { type Item, sizeOf } from './entry.ts'

interface Held {
  readonly item: Item
  readonly bytes: number
}

/**
 * What one thread keeps, bounded in bytes; what was used longest ago goes first. Bodies that are
 * being received count too, as they are reserved.
 */
export class EntryStore {
  readonly #figures: CacheFigures
  readonly #held = new Map<string, Held>()
  #bytesMax: number
  #bytes = 0
  #reserved = 0

  constructor(bytesMax: number, figures: CacheFigures) {
    this.#bytesMax = bytesMax
    this.#figures = figures
    this.#report()
  }

  resize(bytesMax: number): void {
    this.#bytesMax = bytesMax
    this.#makeRoom(0)
    this.#report()
  }

  get(key: string): Item | undefined {
    const held = this.#held.get(key)
    if (held === undefined) return undefined
    // A Map is in the order of insertion, so this makes it the youngest.
    this.#held.delete(key)
    this.#held.set(key, held)
    return held.item
  }

  /** `false`: it is too large to be kept. What was there before is gone in any case. */
  set(key: string, item: Item): boolean {
    this.delete(key)
    const bytes = sizeOf(key, item)
    const fits = this.#makeRoom(bytes)
    if (fits) {
      this.#held.set(key, { item, bytes })
      this.#bytes += bytes
    }
    this.#report()
    return fits
  }

  delete(key: string): void {
    const held = this.#held.get(key)
    if (held === undefined) return
    this.#held.delete(key)
    this.#bytes -= held.bytes
    this.#report()
  }

  /** Makes room for a body under way; `false` where there is none. */
  reserve(bytes: number): boolean {
    if (!this.#makeRoom(bytes)) return false
    this.#reserved += bytes
    return true
  }

  release(bytes: number): void {
    this.#reserved -= bytes
  }

  #makeRoom(bytes: number): boolean {
    const limit = this.#bytesMax - this.#reserved - bytes
    if (limit < 0) return false
    for (const [key, held] of this.#held) {
      if (this.#bytes <= limit) break
      this.#held.delete(key)
      this.#bytes -= held.bytes
      this.#figures.add('evictions', 1)
    }
    return true
  }

  #report(): void {
    this.#figures.set('bytes', this.#bytes)
    this.#figures.set('entries', this.#held.size)
  }
}
