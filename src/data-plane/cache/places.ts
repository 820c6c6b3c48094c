import type { ExchangeState } from '../exchange.ts'
import { type CacheRequest, toVariantKey } from './cache-request.ts'
import { type Entry, isServable } from './entry.ts'
import type { ThreadCache } from './thread-cache.ts'

/** Where the answer to a request lies, or would lie as far as is known. */
export interface Place {
  readonly key: string
  /** Absent, too, if it must not be given to anybody any more. */
  readonly entry: Entry | undefined
  /** Another variant of the URL is known. */
  readonly isVaried: boolean
}

export function findPlace(cache: ThreadCache, exchange: ExchangeState, request: CacheRequest): Place {
  const { primaryKey } = request
  const first = cache.store.get(primaryKey)
  const isVaried = first?.kind === 'vary'
  const key = isVaried ? toVariantKey(exchange, primaryKey, first.names) : primaryKey
  const found = isVaried ? cache.store.get(key) : first
  if (found?.kind !== 'answer') return { key, entry: undefined, isVaried }
  if (isServable(found, cache.counters, cache.nowMs())) return { key, entry: found, isVaried }
  // Not for want of a lease: that may come back, and what was purged meanwhile is known then.
  if (!cache.counters.isUntouched(found.marks, found.since)) cache.store.delete(key)
  return { key, entry: undefined, isVaried }
}

/** Stores an answer under the key that its `Vary` asks for; gives the keys where something new lies. */
export function keepEntry(
  cache: ThreadCache,
  exchange: ExchangeState,
  request: CacheRequest,
  varyNames: readonly string[],
  entry: Entry,
): string[] {
  const { primaryKey } = request
  if (varyNames.length === 0) {
    cache.store.set(primaryKey, entry)
    return [primaryKey]
  }
  const note = cache.store.get(primaryKey)
  const isNoted = note?.kind === 'vary' && note.names.join() === varyNames.join()
  if (!isNoted) cache.store.set(primaryKey, { kind: 'vary', names: varyNames })
  const key = toVariantKey(exchange, primaryKey, varyNames)
  cache.store.set(key, entry)
  return isNoted ? [key] : [primaryKey, key]
}

const PASS_MS = 5_000

/** Notes that the answers at this place were not fit to be stored: nobody need wait for one. */
export function notePass(cache: ThreadCache, key: string): void {
  cache.store.set(`pass ${key}`, { kind: 'pass', untilMs: cache.nowMs() + PASS_MS })
}

export function isPassed(cache: ThreadCache, key: string): boolean {
  const note = cache.store.get(`pass ${key}`)
  return note?.kind === 'pass' && cache.nowMs() < note.untilMs
}
