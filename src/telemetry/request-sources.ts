import {
  ABORTED_CELL,
  BYTES_IN_CELL,
  BYTES_OUT_CELL,
  CODES,
  DECISIONS,
  DURATION_BOUNDS,
  HISTOGRAM_CELLS,
  type NameRegistry,
  OVERHEAD_BOUNDS,
  OVERHEAD_EXEMPLAR,
  OVERHEAD_OFFSET,
  REQUEST_CELLS,
  routeExemplar,
  routeOffset,
  upstreamExemplar,
  upstreamOffset,
} from './counters.ts'
import type { Exemplar, Exemplars } from './exemplars.ts'
import { type Regions, type Sample, type Source, sum } from './sources.ts'

/** What data-plane threads count of each request, summed over them. */
export function listRequestSources(
  regions: Regions,
  exemplars: readonly Exemplars[],
  names: NameRegistry,
): Source[] {
  const routes = (): readonly string[] => names.all().routes
  return [
    {
      name: 'dripgate_requests_total',
      help: 'Requests to the gateway listener, each once.',
      type: 'counter',
      collect: () => routes().flatMap((route, series) => collectRequests(regions, route, series)),
    },
    {
      name: 'dripgate_request_duration_seconds',
      help: "From a request's head to the last byte of its answer.",
      type: 'histogram',
      collect: () =>
        routes().flatMap((route, series) => {
          const place = {
            offset: routeOffset(series) + REQUEST_CELLS,
            bounds: DURATION_BOUNDS,
            exemplar: routeExemplar(series),
            exemplars,
          }
          return collectHistogram(regions, 'dripgate_request_duration_seconds', place, { route })
        }),
    },
    {
      name: 'dripgate_upstream_duration_seconds',
      help: "From the start of forwarding to the end of the upstream's answer.",
      type: 'histogram',
      collect: () =>
        names.all().upstreams.flatMap((upstream, series) => {
          const place = {
            offset: upstreamOffset(series),
            bounds: DURATION_BOUNDS,
            exemplar: upstreamExemplar(series),
            exemplars,
          }
          return collectHistogram(regions, 'dripgate_upstream_duration_seconds', place, { upstream })
        }),
    },
    {
      name: 'dripgate_overhead_seconds',
      help: 'Duration of a request without the time spent at its upstream.',
      type: 'histogram',
      collect: () => {
        const place = {
          offset: OVERHEAD_OFFSET,
          bounds: OVERHEAD_BOUNDS,
          exemplar: OVERHEAD_EXEMPLAR,
          exemplars,
        }
        return collectHistogram(regions, 'dripgate_overhead_seconds', place, undefined)
      },
    },
    perRoute('dripgate_received_bytes_total', "Bytes of requests' bodies.", BYTES_IN_CELL),
    perRoute('dripgate_sent_bytes_total', "Bytes of answers' bodies.", BYTES_OUT_CELL),
    perRoute('dripgate_requests_aborted_total', 'Requests whose answer was broken off.', ABORTED_CELL),
  ]

  function perRoute(name: string, help: string, cell: number): Source {
    const collect = (): Sample[] =>
      routes().flatMap((route, series) => {
        const value = sum(regions, routeOffset(series) + cell)
        return value === 0 ? [] : [{ labels: { route }, value }]
      })
    return { name, help, type: 'counter', collect }
  }
}

/** Only combinations that have happened; most of the others never will. */
function collectRequests(regions: Regions, route: string, series: number): Sample[] {
  const samples: Sample[] = []
  let cell = routeOffset(series)
  for (const decision of DECISIONS) {
    for (const code of CODES) {
      const value = sum(regions, cell++)
      if (value > 0) samples.push({ labels: { route, decision, code }, value })
    }
  }
  return samples
}

interface HistogramPlace {
  readonly offset: number
  readonly bounds: readonly number[]
  /** Of its first bucket. */
  readonly exemplar: number
  readonly exemplars: readonly Exemplars[]
}

/** The latest of all threads. */
function findExemplar(exemplars: readonly Exemplars[], slot: number): Sample['exemplar'] {
  let latest: Exemplar | undefined
  for (const thread of exemplars) {
    const found = thread.find(slot)
    if (found !== undefined && found.timeMs > (latest?.timeMs ?? 0)) latest = found
  }
  if (latest === undefined) return undefined
  return { labelSet: { trace_id: latest.traceId }, value: latest.seconds, timestamp: latest.timeMs / 1000 }
}

/** Empty while nothing was observed, unless the metric has no labels and so is always there. */
function collectHistogram(
  regions: Regions,
  name: string,
  place: HistogramPlace,
  own: Readonly<Record<string, string>> | undefined,
): Sample[] {
  const labels = own ?? {}
  const samples: Sample[] = []
  let count = 0
  for (let bucket = 0; bucket <= place.bounds.length; bucket++) {
    count += sum(regions, place.offset + bucket)
    const le = bucket < place.bounds.length ? String(place.bounds[bucket]) : '+Inf'
    const exemplar = findExemplar(place.exemplars, place.exemplar + bucket)
    samples.push({
      labels: { ...labels, le },
      value: count,
      metricName: `${name}_bucket`,
      ...(exemplar === undefined ? {} : { exemplar }),
    })
  }
  if (count === 0 && own !== undefined) return []
  const seconds = sum(regions, place.offset + HISTOGRAM_CELLS - 1)
  samples.push({ labels, value: seconds, metricName: `${name}_sum` })
  samples.push({ labels, value: count, metricName: `${name}_count` })
  return samples
}
