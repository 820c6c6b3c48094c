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

export interface CacheFigures {
  add(figure: CacheFigure, amount: number): void
  set(figure: CacheFigure, value: number): void
}

/** `cells` has at least as many cells as there are figures. */
export function createCacheFigures(cells: Float64Array): CacheFigures {
  const places = new Map<CacheFigure, number>(CACHE_FIGURES.map((figure, index) => [figure, index]))
  return {
    add(figure, amount) {
      const place = places.get(figure) ?? 0
      cells[place] = (cells[place] ?? 0) + amount
    },
    set(figure, value) {
      cells[places.get(figure) ?? 0] = value
    },
  }
}
