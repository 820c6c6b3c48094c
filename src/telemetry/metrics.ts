import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import { STORE_FIGURES, type StoreFigure } from '../ports/store-figures.ts'
import type { UpstreamFigures } from '../ports/target-figures.ts'
import { listCacheSources } from './cache-metrics.ts'
import {
  CODES,
  CONNECTIONS_CELL,
  type Counters,
  CUT_OFF_CELL,
  CUT_OFF_REASONS,
  LINES_DROPPED_CELL,
  type NameRegistry,
  openRegion,
  openThreadExemplars,
  SPAN_OUTCOMES,
  SPANS_CELL,
  STORE_ERROR_CELL,
  STORE_ERROR_MODES,
  STORE_FIGURES_CELL,
} from './counters.ts'
import { listRequestSources } from './request-sources.ts'
import { createScriptCounter, type ScriptCounter } from './script-counter.ts'
import { type Regions, type Source, sum } from './sources.ts'
import { listTargetSources } from './target-sources.ts'

export interface Metrics {
  /** In OpenMetrics where the `Accept` field prefers it, else in the Prometheus text format. */
  render(accept?: string): Promise<{ readonly contentType: string; readonly body: string }>
  countReload(successful: boolean): void
  countThreadRestart(): void
  countAdminRequest(status: number): void
  setStoreUp(up: boolean): void
  setFlushSeconds(seconds: number): void
  /** Those in force, in the order of the configuration; times in seconds since the epoch. */
  setCertificates(certificates: readonly { readonly expiresAt: number }[]): void
  /** Whether what the certificate files hold now is in force. */
  setCertificatesGood(isGood: boolean): void
  countScriptCall: ScriptCounter
  countPurge(outcome: 'done' | 'pending' | 'failed'): void
}

/** Lives on the control thread; `nowMs` is the wall clock. The start counts as a good reload. */
export function createMetrics(deps: {
  readonly counters: Counters
  readonly names: NameRegistry
  readonly version: string
  readonly nowMs: () => number
  readonly upstreams: () => readonly UpstreamFigures[]
}): Metrics {
  const registry = new Registry()
  const { counters, names } = deps
  const regions = Array.from({ length: counters.threads }, (_, thread) => openRegion(counters, thread))
  const exemplars = Array.from({ length: counters.threads }, (_, thread) =>
    openThreadExemplars(counters, thread),
  )
  for (const source of [
    ...listRequestSources(regions, exemplars, names),
    ...listThreadSources(regions),
    ...listStoreSources(regions),
    ...listTargetSources(deps.upstreams),
    ...listCacheSources((cell) => sum(regions, cell)),
  ]) {
    register(registry, source)
  }
  const own = createOwnMetrics(registry, deps)
  // Of the process and of this thread's heap and event loop; data-plane threads are not in it.
  collectDefaultMetrics({ register: registry })

  return {
    ...own,
    async render(accept) {
      const chosen = prefersOpenMetrics(accept) ? toOpenMetrics(registry) : registry
      return { contentType: chosen.contentType, body: await chosen.metrics() }
    },
  }
}

function createOwnMetrics(
  registry: Registry,
  deps: { readonly version: string; readonly nowMs: () => number },
): Omit<Metrics, 'render'> {
  const registers = [registry]
  const gauge = (name: string, help: string) => new Gauge({ name: `dripgate_${name}`, help, registers })
  const build = new Gauge({
    name: 'dripgate_build_info',
    help: 'Always 1; the version is in the label.',
    labelNames: ['version'],
    registers,
  })
  const reloadOk = gauge('config_last_reload_successful', 'Whether the last load of the config was good (1).')
  const reloadAt = gauge(
    'config_last_reload_timestamp_seconds',
    'When a config was last put into force, in seconds since the epoch.',
  )
  const storeUp = gauge('store_up', 'Whether the store answered when it was last asked (1).')
  const flush = gauge('store_flush_duration_seconds', 'How long the last flush of the buckets took.')
  const restarts = new Counter({
    name: 'dripgate_thread_restarts_total',
    help: 'Threads that died and were replaced.',
    registers,
  })
  const purges = new Counter({
    name: 'dripgate_cache_purges_total',
    help: 'Purges by how they ended: every node has applied them (done), or not all in time.',
    labelNames: ['outcome'],
    registers,
  })
  const admin = new Counter({
    name: 'dripgate_admin_requests_total',
    help: 'Requests to the admin listener.',
    labelNames: ['code'],
    registers,
  })

  const expiry = new Gauge({
    name: 'dripgate_tls_certificate_expiry_timestamp_seconds',
    help: 'When a certificate of the gateway listener expires, in seconds since the epoch; certificate is its place in gateway.tls, from 1.',
    labelNames: ['certificate'],
    registers,
  })
  const certificatesGood = gauge(
    'tls_certificates_last_reload_successful',
    'Whether what the certificate files hold is in force (1), or unfit, so that the old ones are (0).',
  )
  certificatesGood.set(1)

  const countReload = (successful: boolean): void => {
    reloadOk.set(successful ? 1 : 0)
    if (successful) reloadAt.set(deps.nowMs() / 1000)
  }
  for (const outcome of ['done', 'pending', 'failed']) purges.inc({ outcome }, 0)
  build.set({ version: deps.version }, 1)
  storeUp.set(1)
  countReload(true)
  return {
    countReload,
    countThreadRestart: () => restarts.inc(),
    countPurge: (outcome) => purges.inc({ outcome }),
    countAdminRequest: (status) => admin.inc({ code: toCodeLabel(status) }),
    setStoreUp: (up) => storeUp.set(up ? 1 : 0),
    setFlushSeconds: (seconds) => flush.set(seconds),
    setCertificates(certificates) {
      expiry.reset()
      for (const [index, { expiresAt }] of certificates.entries())
        expiry.set({ certificate: String(index + 1) }, expiresAt)
    },
    setCertificatesGood: (isGood) => certificatesGood.set(isGood ? 1 : 0),
    countScriptCall: createScriptCounter(registry),
  }
}

function toCodeLabel(status: number): string {
  return CODES[Math.min(5, Math.max(1, Math.trunc(status / 100))) - 1] ?? '5xx'
}

function listThreadSources(regions: Regions): Source[] {
  return [
    {
      name: 'dripgate_connections_open',
      help: 'Connections of clients to the gateway listener.',
      type: 'gauge',
      collect: () => [{ labels: {}, value: sum(regions, CONNECTIONS_CELL) }],
    },
    {
      name: 'dripgate_http2_connections_cut_off_total',
      help: 'Connections of HTTP/2 that the gateway ended because of floods, by what they were flooded with.',
      type: 'counter',
      collect: () =>
        CUT_OFF_REASONS.map((reason, index) => ({
          labels: { reason },
          value: sum(regions, CUT_OFF_CELL + index),
        })),
    },
    {
      name: 'dripgate_access_log_lines_dropped_total',
      help: 'Lines that were not written because whoever reads the access log is too slow or gone.',
      type: 'counter',
      collect: () => [{ labels: {}, value: sum(regions, LINES_DROPPED_CELL) }],
    },
    {
      name: 'dripgate_otlp_spans_total',
      help: 'Spans of sampled traces: taken by the collector (sent), or given up because it failed or was too slow.',
      type: 'counter',
      collect: () =>
        SPAN_OUTCOMES.map((outcome, index) => ({
          labels: { outcome },
          value: sum(regions, SPANS_CELL + index),
        })),
    },
  ]
}

/** Of a store that is shared with other machines; all zero for the embedded one. */
function listStoreSources(regions: Regions): Source[] {
  const figure = (name: StoreFigure) => sum(regions, STORE_FIGURES_CELL + STORE_FIGURES.indexOf(name))
  const single = (name: string, help: string, type: Source['type'], of: StoreFigure): Source => {
    return { name, help, type, collect: () => [{ labels: {}, value: figure(of) }] }
  }
  return [
    {
      name: 'dripgate_store_error_decisions_total',
      help: 'Requests decided without an answer of the store, by what the route says then.',
      type: 'counter',
      collect: () =>
        STORE_ERROR_MODES.map((mode, index) => ({
          labels: { mode },
          value: sum(regions, STORE_ERROR_CELL + index),
        })),
    },
    {
      name: 'dripgate_store_checks_total',
      help: 'Checks by where they were decided: asked of the store, or from memory as blocked or leased.',
      type: 'counter',
      collect: () =>
        (['asked', 'blocked', 'leased'] as const).map((where) => ({
          labels: { where },
          value: figure(where),
        })),
    },
    single('dripgate_store_calls_total', 'Calls to the store that carry checks.', 'counter', 'calls'),
    single(
      'dripgate_store_failures_total',
      'Checks and look-ups that the store failed to answer.',
      'counter',
      'failed',
    ),
    single(
      'dripgate_store_forgotten_tokens_total',
      'Spent tokens that the store no longer knew of after a failover or restart, as far as seen from here.',
      'counter',
      'forgotten',
    ),
    single('dripgate_store_down_threads', 'Threads that take the store for dead.', 'gauge', 'isDown'),
    single(
      'dripgate_store_deaf_threads',
      'Threads that cannot hear of changes by other nodes.',
      'gauge',
      'isDeaf',
    ),
  ]
}

function register(registry: Registry, { name, help, type, collect }: Source): void {
  const metric = { name, help, type, get: async () => ({ name, help, type, values: collect() }) }
  // A registry asks nothing of a metric but its name and `get`; its type names the four classes.
  registry.registerMetric(metric as unknown as Gauge)
}

/**
 * Prom-client renames counters for OpenMetrics in place, which would spoil later answers in the
 * text format; so the metrics are wrapped anew.
 */
function toOpenMetrics(registry: Registry): Registry {
  const renamed = new Registry()
  renamed.setContentType(Registry.OPENMETRICS_CONTENT_TYPE as never)
  for (const metric of registry.getMetricsAsArray() as unknown as Gauge[]) {
    const get = async () => {
      const found: { name: string; type: unknown } = await metric.get()
      const isCounter = found.type === 'counter'
      return { ...found, name: isCounter ? found.name.replace(/_total$/, '') : found.name }
    }
    const { name } = metric as unknown as { name: string }
    renamed.registerMetric({ name, get } as unknown as Gauge)
  }
  return renamed
}

function prefersOpenMetrics(accept: string | undefined): boolean {
  if (accept === undefined) return false
  const openMetrics = qualityOf(accept, 'application/openmetrics-text')
  return openMetrics > 0 && openMetrics >= qualityOf(accept, 'text/plain')
}

/** Of a type that is named as such; wildcards are content with the text format. */
function qualityOf(accept: string, type: string): number {
  let best = 0
  for (const range of accept.split(',')) {
    const [name = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase())
    if (name !== type) continue
    const quality = parameters.find((parameter) => parameter.startsWith('q='))
    best = Math.max(best, quality === undefined ? 1 : Number(quality.slice(2)) || 0)
  }
  return best
}
