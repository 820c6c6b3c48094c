import type { CacheFigures } from '../../ports/cache-figures.ts'
import { PurgeCounters, type PurgeMemory } from '../../ports/purge-counters.ts'
import { EntryStore } from './entry-store.ts'
import { Flights } from './flights.ts'

/** The response cache of one data-plane thread. */
export interface ThreadCache {
  readonly store: EntryStore
  readonly flights: Flights
  readonly counters: PurgeCounters
  readonly figures: CacheFigures
  /** Never steps back, and is the same on all threads. */
  readonly nowMs: () => number
}

export function createThreadCache(options: {
  readonly bytesMax: number
  readonly memory: PurgeMemory
  readonly figures: CacheFigures
  readonly nowMs: () => number
}): ThreadCache {
  const { bytesMax, memory, figures, nowMs } = options
  return {
    store: new EntryStore(bytesMax, figures),
    flights: new Flights(),
    counters: new PurgeCounters(memory),
    figures,
    nowMs,
  }
}
