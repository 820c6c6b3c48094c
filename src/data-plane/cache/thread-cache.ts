import type { CacheFigures } from '../../ports/cache-figures.ts'
import { PurgeCounters, type PurgeMemory } from '../../ports/purge-counters.ts'
import { EntryStore } from './entry-store.ts'
import { Far } from './far.ts'
import { Flights } from './flights.ts'
import type { CacheFromThread } from './messages.ts'

/** The response cache of one data-plane thread. */
export interface ThreadCache {
  readonly store: EntryStore
  readonly flights: Flights
  readonly counters: PurgeCounters
  readonly figures: CacheFigures
  /** The other threads and nodes, if there are any. */
  readonly far: Far | undefined
  /** Never steps back, and is the same on all threads. */
  readonly nowMs: () => number
}

export function createThreadCache(options: {
  readonly bytesMax: number
  readonly memory: PurgeMemory
  readonly figures: CacheFigures
  readonly nowMs: () => number
  /** To the directory on the control thread; left out where this thread is alone. */
  readonly post?: ((message: CacheFromThread) => void) | undefined
}): ThreadCache {
  const { bytesMax, memory, figures, nowMs, post } = options
  const store = new EntryStore(bytesMax, figures)
  const counters = new PurgeCounters(memory)
  const far = post && new Far({ post, store, counters, nowMs })
  return {
    store,
    flights: new Flights((flight, end) => {
      if (flight.isClaimed) far?.settle(flight.key, end, flight.stored)
    }),
    counters,
    figures,
    far,
    nowMs,
  }
}
