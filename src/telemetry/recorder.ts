import type { DecisionLabel, FinishedExchange, Recorder } from '../ports/runtime.ts'
import type { AccessLog } from './access-log.ts'
import {
  ABORTED_CELL,
  BYTES_IN_CELL,
  BYTES_OUT_CELL,
  CODES,
  CONNECTIONS_CELL,
  type Counters,
  CUT_OFF_CELL,
  CUT_OFF_REASONS,
  DECISIONS,
  DURATION_BOUNDS,
  LINES_DROPPED_CELL,
  type MetricNames,
  OTHER,
  OVERHEAD_BOUNDS,
  OVERHEAD_EXEMPLAR,
  OVERHEAD_OFFSET,
  openRegion,
  openThreadExemplars,
  REQUEST_CELLS,
  routeExemplar,
  routeOffset,
  SPAN_OUTCOMES,
  SPANS_CELL,
  STORE_ERROR_CELL,
  STORE_ERROR_MODES,
  upstreamExemplar,
  upstreamOffset,
} from './counters.ts'
import type { SpanExporter } from './span-exporter.ts'

/** The recorder of one data-plane thread. Only that thread may use it. */
export interface ThreadRecorder extends Recorder {
  /** Call it on a reload, before the first exchange under the new configuration ends. */
  setNames(names: MetricNames): void
  /** Where lines go from now on. The caller closes the log that was there before. */
  setAccessLog(accessLog: AccessLog | undefined): void
  /** Where spans go from now on. The caller closes the exporter that was there before. */
  setSpanExporter(exporter: SpanExporter | undefined): void
  countSpans(outcome: (typeof SPAN_OUTCOMES)[number], spans: number): void
  /** `change` is +1 for a client's connection that opened, -1 for one that closed. */
  addConnections(change: number): void
  /** A connection of HTTP/2 was cut off. */
  countCutOff(reason: (typeof CUT_OFF_REASONS)[number]): void
}

const DECISION_CELLS = new Map<DecisionLabel, number>(
  DECISIONS.map((decision, index) => [decision, index * CODES.length]),
)

/** `names` as the control thread's `NameRegistry` gave them; `threadIndex` from 0. */
export function createRecorder(deps: {
  readonly counters: Counters
  readonly threadIndex: number
  readonly names: MetricNames
  readonly accessLog?: AccessLog | undefined
}): ThreadRecorder {
  let { accessLog } = deps
  let spanExporter: SpanExporter | undefined
  const cells = openRegion(deps.counters, deps.threadIndex)
  const exemplars = openThreadExemplars(deps.counters, deps.threadIndex)
  // The connections of a predecessor in this region died with it.
  cells[CONNECTIONS_CELL] = 0
  let linesDroppedBefore = cells[LINES_DROPPED_CELL] ?? 0
  let routes = toSeries(deps.names.routes)
  let upstreams = toSeries(deps.names.upstreams)

  return {
    setNames(names) {
      routes = toSeries(names.routes)
      upstreams = toSeries(names.upstreams)
    },
    setAccessLog(next) {
      linesDroppedBefore = cells[LINES_DROPPED_CELL] ?? 0
      accessLog = next
    },
    setSpanExporter(next) {
      spanExporter = next
    },
    countSpans(outcome, spans) {
      add(cells, SPANS_CELL + SPAN_OUTCOMES.indexOf(outcome), spans)
    },
    addConnections(change) {
      add(cells, CONNECTIONS_CELL, change)
    },
    countCutOff(reason) {
      add(cells, CUT_OFF_CELL + CUT_OFF_REASONS.indexOf(reason), 1)
    },
    record(exchange) {
      countRequest(exchange)
      if (spanExporter !== undefined) spanExporter.export(exchange)
      if (accessLog === undefined) return
      accessLog.write(exchange)
      cells[LINES_DROPPED_CELL] = linesDroppedBefore + accessLog.linesDropped()
    },
  }

  function countRequest(exchange: FinishedExchange): void {
    const series = routes.get(exchange.routeName) ?? OTHER
    const route = routeOffset(series)
    add(cells, route + (DECISION_CELLS.get(exchange.decision) ?? 0) + toCode(exchange.status), 1)
    const seconds = exchange.durationMs / 1000
    const bucket = observe(cells, route + REQUEST_CELLS, DURATION_BOUNDS, seconds)
    keepExemplar(exchange, routeExemplar(series) + bucket, seconds)
    add(cells, route + BYTES_IN_CELL, exchange.bytesIn)
    add(cells, route + BYTES_OUT_CELL, exchange.bytesOut)
    if (exchange.aborted) add(cells, route + ABORTED_CELL, 1)
    const mode = exchange.degraded ?? (exchange.decision === 'store_error' ? 'deny' : undefined)
    if (mode !== undefined) add(cells, STORE_ERROR_CELL + STORE_ERROR_MODES.indexOf(mode), 1)

    let ownMs = exchange.durationMs
    if (exchange.upstreamMs >= 0) {
      const series = upstreams.get(exchange.upstreamName) ?? OTHER
      const seconds = exchange.upstreamMs / 1000
      const bucket = observe(cells, upstreamOffset(series), DURATION_BOUNDS, seconds)
      keepExemplar(exchange, upstreamExemplar(series) + bucket, seconds)
      ownMs -= exchange.upstreamMs
    }
    const ownBucket = observe(cells, OVERHEAD_OFFSET, OVERHEAD_BOUNDS, ownMs / 1000)
    keepExemplar(exchange, OVERHEAD_EXEMPLAR + ownBucket, ownMs / 1000)
  }

  function keepExemplar(exchange: FinishedExchange, slot: number, seconds: number): void {
    const { traceparent, startMs, durationMs } = exchange
    if (traceparent === undefined || traceparent === '') return
    exemplars.keep(slot, traceparent, seconds, startMs + durationMs)
  }
}

function toSeries(names: readonly string[]): Map<string, number> {
  return new Map(names.map((name, position) => [name, position]))
}

/** Position in `CODES`. A client that left before any answer (0) counts as one of its own errors. */
function toCode(status: number): number {
  if (status >= 500) return 4
  if (status < 100) return 3
  return Math.trunc(status / 100) - 1
}

function add(cells: Float64Array, cell: number, amount: number): void {
  cells[cell] = (cells[cell] ?? 0) + amount
}

/** Gives the bucket. A duration that is negative or no number counts as 0, so that no sum is ever spoiled. */
function observe(cells: Float64Array, offset: number, bounds: readonly number[], seconds: number): number {
  const value = seconds > 0 ? seconds : 0
  let bucket = 0
  while (bucket < bounds.length && value > (bounds[bucket] ?? 0)) bucket++
  add(cells, offset + bucket, 1)
  add(cells, offset + bounds.length + 1, value)
  return bucket
}
