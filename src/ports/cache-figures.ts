import type { Figures } from './figures.ts'

/** What a data-plane thread counts about its response cache: one cell each, only that thread writes. */
export const CACHE_FIGURES = [
  /** Requests by what the cache did for them. */
  'hit',
  'miss',
  /** Given after its end, while a new one is fetched or the upstream fails. */
  'stale',
  /** An old answer was confirmed or replaced by the upstream. */
  'revalidated',
  /** Waited for an answer that another request fetched. */
  'collapsed',
  'bypass',
  /** Answers and bytes that are stored now. */
  'entries',
  'bytes',
  'evictions',
  /** By unsafe requests (RFC 9111 section 4.4). */
  'invalidations',
] as const

export type CacheFigure = (typeof CACHE_FIGURES)[number]

export type CacheFigures = Figures<CacheFigure>
