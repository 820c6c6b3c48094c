/**
 * Counters in memory that all threads share. Each data-plane thread only adds to its own region,
 * without atomics, because nobody else writes there; the control thread sums the regions when it is
 * scraped. A replacement for a thread that died takes over its region and goes on counting.
 *
 * A series belongs to a name, and a name keeps its place for the life of the process, whatever
 * reloads do to the configuration: so no count is lost or moved. See `createNames`.
 */

import { CACHE_FIGURES, type CacheFigures } from '../ports/cache-figures.ts'
import { createFigures } from '../ports/figures.ts'
import type { DecisionLabel } from '../ports/runtime.ts'
import { STORE_FIGURES, type StoreFigure, type StoreFigures } from '../ports/store-figures.ts'
import { type Exemplars, exemplarBytes, openExemplars } from './exemplars.ts'

export const DECISIONS = [
  'allowed',
  'open',
  'limited',
  'missing_token',
  'invalid_token',
  'expired_token',
  'store_error',
  'rejected',
] as const satisfies readonly DecisionLabel[]

/** By hundreds of the status: `1xx` to `5xx`. */
export const CODES = ['1xx', '2xx', '3xx', '4xx', '5xx'] as const

/** Upper bounds in seconds of the request and upstream histograms. */
export const DURATION_BOUNDS = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
] as const

/** The gateway's own share is far below the first bound above, so its bounds start lower. */
export const OVERHEAD_BOUNDS = [
  0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 10,
] as const

/** Buckets (the last one is `+Inf`), then the sum in seconds. Buckets are not cumulative here. */
export const HISTOGRAM_CELLS = DURATION_BOUNDS.length + 2

/** Cells of one route: requests by decision and code, the histogram, then the three below. */
export const REQUEST_CELLS = DECISIONS.length * CODES.length
export const BYTES_IN_CELL = REQUEST_CELLS + HISTOGRAM_CELLS
export const BYTES_OUT_CELL = BYTES_IN_CELL + 1
export const ABORTED_CELL = BYTES_OUT_CELL + 1
const ROUTE_CELLS = ABORTED_CELL + 1

/** Cells of one thread, ahead of its overhead histogram, its routes and its upstreams. */
export const CONNECTIONS_CELL = 0
export const LINES_DROPPED_CELL = 1
/** Decisions made without an answer of the store, by what was done. */
export const STORE_ERROR_MODES = ['deny', 'allow', 'local'] as const
export const STORE_ERROR_CELL = 2
export const STORE_FIGURES_CELL = STORE_ERROR_CELL + STORE_ERROR_MODES.length
export const CACHE_FIGURES_CELL = STORE_FIGURES_CELL + STORE_FIGURES.length
/** Connections of HTTP/2 that were cut off, by reason. */
export const CUT_OFF_REASONS = ['resets', 'continuations', 'control_frames', 'invalid_frames'] as const
export const CUT_OFF_CELL = CACHE_FIGURES_CELL + CACHE_FIGURES.length
/** Spans for the collector, by what became of them. */
export const SPAN_OUTCOMES = ['sent', 'dropped'] as const
export const SPANS_CELL = CUT_OFF_CELL + CUT_OFF_REASONS.length
const THREAD_CELLS = SPANS_CELL + SPAN_OUTCOMES.length

/** Routes and upstreams with a series of their own; more share the series of `other`. */
export const NAMES_MAX = 1000
/** In front of all names: where no route matched, and where there is no series left. */
const RESERVED_NAMES = ['none', 'other'] as const
export const OTHER = 1
const SERIES = NAMES_MAX + RESERVED_NAMES.length

const REGION_CELLS = THREAD_CELLS + HISTOGRAM_CELLS + SERIES * (ROUTE_CELLS + HISTOGRAM_CELLS)

/** Histograms of one thread: overhead, routes, upstreams; and their buckets, each with an exemplar. */
const EXEMPLARS = (1 + 2 * SERIES) * (DURATION_BOUNDS.length + 1)
const EXEMPLAR_BYTES = exemplarBytes(EXEMPLARS)

/** Plain data: give it to a thread as part of its `workerData`. */
export interface Counters {
  readonly buffer: SharedArrayBuffer
  readonly exemplars: SharedArrayBuffer
  /** Regions, numbered from 0. */
  readonly threads: number
}

/** About 2 MB a thread, of which the system backs only what is touched. */
export function createCounters(threads: number): Counters {
  const bytes = threads * REGION_CELLS * Float64Array.BYTES_PER_ELEMENT
  return {
    buffer: new SharedArrayBuffer(bytes),
    exemplars: new SharedArrayBuffer(threads * EXEMPLAR_BYTES),
    threads,
  }
}

/** For slots see `OVERHEAD_EXEMPLAR`, `routeExemplar` and `upstreamExemplar`. */
export function openThreadExemplars(counters: Counters, threadIndex: number): Exemplars {
  return openExemplars(counters.exemplars, threadIndex * EXEMPLAR_BYTES, EXEMPLARS)
}

/** The exemplar of the first bucket; those of the others follow. */
export const OVERHEAD_EXEMPLAR = 0

export function routeExemplar(series: number): number {
  return (1 + series) * (DURATION_BOUNDS.length + 1)
}

export function upstreamExemplar(series: number): number {
  return routeExemplar(SERIES + series)
}

export function openRegion(counters: Counters, threadIndex: number): Float64Array {
  if (!Number.isInteger(threadIndex) || threadIndex < 0 || threadIndex >= counters.threads) {
    throw new RangeError(`there is no counter region ${threadIndex}`)
  }
  const offset = threadIndex * REGION_CELLS * Float64Array.BYTES_PER_ELEMENT
  return new Float64Array(counters.buffer, offset, REGION_CELLS)
}

/** What a thread counts about its store. A replacement for a thread that died goes on counting. */
export function openStoreFigures(counters: Counters, threadIndex: number): StoreFigures {
  const region = openRegion(counters, threadIndex)
  return createFigures(
    STORE_FIGURES,
    region.subarray(STORE_FIGURES_CELL, STORE_FIGURES_CELL + STORE_FIGURES.length),
  )
}

/** What a thread counts about its response cache. */
export function openCacheFigures(counters: Counters, threadIndex: number): CacheFigures {
  const region = openRegion(counters, threadIndex)
  return createFigures(
    CACHE_FIGURES,
    region.subarray(CACHE_FIGURES_CELL, CACHE_FIGURES_CELL + CACHE_FIGURES.length),
  )
}

/** Over all threads. */
export function sumStoreFigure(counters: Counters, figure: StoreFigure): number {
  let total = 0
  for (let thread = 0; thread < counters.threads; thread++) {
    total += openRegion(counters, thread)[STORE_FIGURES_CELL + STORE_FIGURES.indexOf(figure)] ?? 0
  }
  return total
}

export const OVERHEAD_OFFSET = THREAD_CELLS

/** Where the cells of a route start; `series` is its position in `MetricNames.routes`. */
export function routeOffset(series: number): number {
  return THREAD_CELLS + HISTOGRAM_CELLS + series * ROUTE_CELLS
}

/** Where the histogram of an upstream starts. */
export function upstreamOffset(series: number): number {
  return THREAD_CELLS + HISTOGRAM_CELLS + SERIES * ROUTE_CELLS + series * HISTOGRAM_CELLS
}

/** The names that own a series, by position. Plain data, for the data-plane threads. */
export interface MetricNames {
  readonly routes: readonly string[]
  readonly upstreams: readonly string[]
}

export interface NameRegistry {
  /** Gives each new name the next series, while there are any, and returns all names so far. */
  add(names: MetricNames): MetricNames
  all(): MetricNames
}

/** Lives on the control thread. It only grows, up to `NAMES_MAX` routes and as many upstreams. */
export function createNames(): NameRegistry {
  const routes = new Set<string>(RESERVED_NAMES)
  const upstreams = new Set<string>(RESERVED_NAMES)

  const all = (): MetricNames => ({ routes: [...routes], upstreams: [...upstreams] })
  return {
    all,
    add(names) {
      addTo(routes, names.routes)
      addTo(upstreams, names.upstreams)
      return all()
    },
  }
}

function addTo(known: Set<string>, names: readonly string[]): void {
  for (const name of names) {
    if (known.size < SERIES) known.add(name)
  }
}
