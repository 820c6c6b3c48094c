import { CACHE_FIGURES, type CacheFigure } from '../ports/cache-figures.ts'
import type { CacheOutcome } from '../ports/runtime.ts'
import { CACHE_FIGURES_CELL } from './counters.ts'
import type { Source } from './sources.ts'

const OUTCOMES: readonly CacheOutcome[] = ['hit', 'miss', 'stale', 'revalidated', 'collapsed', 'bypass']

/** Of the response cache; `sum` adds up one cell over all threads. */
export function listCacheSources(sum: (cell: number) => number): Source[] {
  const figure = (name: CacheFigure) => sum(CACHE_FIGURES_CELL + CACHE_FIGURES.indexOf(name))
  const single = (name: string, help: string, type: Source['type'], of: CacheFigure): Source => {
    return { name, help, type, collect: () => [{ labels: {}, value: figure(of) }] }
  }
  return [
    {
      name: 'dripgate_cache_requests_total',
      help: 'Requests on routes that cache, by what the cache did for them.',
      type: 'counter',
      collect: () => OUTCOMES.map((outcome) => ({ labels: { outcome }, value: figure(outcome) })),
    },
    single('dripgate_cache_entries', 'Answers and notes that are stored now.', 'gauge', 'entries'),
    single('dripgate_cache_stored_bytes', 'Memory that they take, about.', 'gauge', 'bytes'),
    single('dripgate_cache_evictions_total', 'Answers dropped for want of room.', 'counter', 'evictions'),
    single(
      'dripgate_cache_invalidations_total',
      'Unsafe requests that made stored answers out of date.',
      'counter',
      'invalidations',
    ),
  ]
}
