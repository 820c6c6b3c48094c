import { randomBytes } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { createCheckKey } from './app/check-key.ts'
import { createRequestIds } from './app/request-ids.ts'
import { rememberHashes } from './app/token-hashes.ts'
import { hashByteString } from './app/tokens.ts'
import { createSpanIds, createTraceparents } from './app/traceparents.ts'
import type { Config } from './config/schema.ts'
import { compileRanges } from './data-plane/address-ranges.ts'
import { createThreadCache } from './data-plane/cache/thread-cache.ts'
import { chooseEngines } from './data-plane/engines.ts'
import type { Plan } from './data-plane/exchange.ts'
import { openFront } from './data-plane/front/open-front.ts'
import { createPipeline } from './data-plane/pipeline.ts'
import { compileRoutes } from './data-plane/route-table.ts'
import type { TargetSeed } from './data-plane/target-directory.ts'
import { createUpstreams } from './data-plane/upstream-pool.ts'
import { errorText } from './domain/errors.ts'
import type { TlsMaterial } from './ports/tls.ts'
import type { Front } from './ports/transport.ts'
import { openThreadStore } from './stores/thread-store.ts'
import { type AccessLog, openAccessLog } from './telemetry/access-log.ts'
import { type MetricNames, openCacheFigures, openStoreFigures } from './telemetry/counters.ts'
import { createLogger } from './telemetry/logger.ts'
import { createRecorder } from './telemetry/recorder.ts'
import { openSpanExporter, type SpanExporter } from './telemetry/span-exporter.ts'
import { createSystemClock } from './telemetry/system-clock.ts'
import type { FromThread, ThreadStart, ToThread } from './thread-messages.ts'
import { tuneV8 } from './v8-tuning.ts'

/* Composition root of one data-plane thread: config → pipeline → listener. */

/** Tokens whose hashes a thread remembers, twice. */
const TOKEN_HASHES_MAX = 10_000

/** What a reload has made ready and not yet put in force. */
interface Prepared {
  readonly config: Config
  readonly plan: Plan
  readonly names: MetricNames
  readonly accessLog: AccessLog | undefined
}

if (parentPort !== null) await runThread(parentPort, workerData as ThreadStart)

async function runThread(port: NonNullable<typeof parentPort>, start: ThreadStart): Promise<void> {
  tuneV8()
  const { listen, config } = start
  const post = (message: FromThread) => port.postMessage(message)
  const logger = createLogger({ thread: `data-plane-${start.index + 1}` })
  const clock = createSystemClock(start.clock)
  const figures = openStoreFigures(start.counters, start.index)
  const store = openThreadStore({ seed: start.store, config, figures, post })
  const { records, buckets, local } = store
  const cache = createThreadCache({
    bytesMax: shareMemory(config),
    memory: start.purge,
    figures: openCacheFigures(start.counters, start.index),
    nowMs: clock.bucketMs,
    post: start.sharesCache ? (message) => post({ kind: 'cache', message }) : undefined,
  })
  let accessLog = openLog(config)
  let { tls } = start
  let front: Front | undefined
  let plan = compilePlan(config, start.targets)
  /** What a reload has made ready. */
  let next: Prepared | undefined
  const recorder = createRecorder({
    counters: start.counters,
    threadIndex: start.index,
    names: start.names,
    accessLog,
  })
  let spans = openSpans(config)
  recorder.setSpanExporter(spans)
  const pipeline = createPipeline(
    {
      checkKey: createCheckKey({ records, buckets, clock }),
      checkLocally: local && createCheckKey({ records: local, buckets: local, clock }),
      hashToken: rememberHashes(hashByteString, TOKEN_HASHES_MAX),
      recorder,
      cache,
      clock,
      createRequestId: createRequestIds({ bytes: randomBytes }),
      logger,
    },
    plan,
  )

  port.on('message', (message: ToThread) => {
    switch (message.kind) {
      case 'prepare':
        return post({ kind: 'prepared', problem: prepare(message) })
      case 'commit':
        commit()
        return post({ kind: 'committed' })
      case 'abandon':
        return abandon()
      case 'tls':
        return replaceTls(message.material)
      case 'targets':
        return plan.upstreams.replaceTargets(message.targets)
      case 'cache':
        return cache.far?.receive(message.message)
      case 'drain':
        return front?.drain()
      case 'close':
        return void close(message.graceMs)
      default:
        return store.receive(message)
    }
  })

  await store.ready()
  const { gateway } = config
  const tlsAtOpening = tls
  front = await openFront(chooseEngines(config).front, {
    handler: pipeline,
    ...listen,
    tls,
    headLimits: plan.headLimits,
    headerBytesMax: gateway.max_header_bytes,
    headersTimeoutMs: gateway.timeouts.headers,
    idleTimeoutMs: gateway.timeouts.idle,
    bodyTimeoutMs: gateway.timeouts.body,
    bodyBytesPerSecondMin: gateway.min_body_rate,
    http2: gateway.http2,
    onConnections: recorder.addConnections,
    onCutOff: recorder.countCutOff,
  }).catch((error: unknown) => {
    post({ kind: 'listen-failed', message: errorText(error) })
    return undefined
  })
  if (tls !== undefined && tls !== tlsAtOpening) replaceTls(tls)
  if (front !== undefined) post({ kind: 'listening', port: front.address.port })

  /** Of the memory for cached answers, what one thread gets. */
  function shareMemory({ gateway }: Config): number {
    return Math.floor(gateway.cache.memory / start.counters.threads)
  }

  /** Gives what is wrong with the new configuration. */
  function prepare({ config, names, targets }: Extract<ToThread, { kind: 'prepare' }>): string | undefined {
    abandon()
    try {
      const plan = compilePlan(config, targets)
      next = { config, plan, names, accessLog: openLog(config) }
      return undefined
    } catch (error) {
      return errorText(error)
    }
  }

  function commit(): void {
    if (next === undefined) return
    const before = { plan, accessLog, spans }
    plan = next.plan
    plan.upstreams.succeed(before.plan.upstreams)
    accessLog = next.accessLog
    recorder.setNames(next.names)
    recorder.setAccessLog(accessLog)
    spans = openSpans(next.config)
    recorder.setSpanExporter(spans)
    pipeline.replace(plan)
    store.configure(next.config)
    cache.store.resize(shareMemory(next.config))
    next = undefined
    before.accessLog?.close()
    void before.spans?.close()
  }

  function openSpans({ gateway }: Config): SpanExporter | undefined {
    const { otlp } = gateway.tracing
    if (otlp === undefined) return undefined
    return openSpanExporter({
      endpoint: otlp.endpoint,
      headers: otlp.headers,
      timeoutMs: otlp.timeout,
      version: start.version,
      createSpanId: createSpanIds({ bytes: randomBytes }),
      onSpans: recorder.countSpans,
      logger,
    })
  }

  function replaceTls(material: TlsMaterial): void {
    tls = material
    try {
      front?.replaceTls(material)
    } catch (error) {
      logger.error('changed certificates cannot be used; the old ones stay in force', { error })
    }
  }

  function abandon(): void {
    next?.accessLog?.close()
    void next?.plan.upstreams.close()
    next = undefined
  }

  async function close(graceMs: number): Promise<void> {
    await front?.close(graceMs)
    await Promise.race([plan.upstreams.close(), new Promise((resolve) => setTimeout(resolve, 200))])
    await Promise.all([store.close(), spans?.close()])
    accessLog?.close()
    logger.flush()
    post({ kind: 'closed' })
    port.close()
  }
}

function openLog(config: Config): AccessLog | undefined {
  const { output } = config.gateway.access_log
  if (output === 'off') return undefined
  try {
    return openAccessLog(output)
  } catch (cause) {
    throw new Error(`gateway.access_log.output ${output} cannot be opened: ${errorText(cause)}`, { cause })
  }
}

function compilePlan(config: Config, targets: TargetSeed): Plan {
  const { trusted_proxies, max_headers, max_target_bytes, tracing } = config.gateway
  return {
    routes: compileRoutes(config),
    upstreams: createUpstreams(config, chooseEngines(config).upstream, targets),
    trustedProxies: compileRanges(trusted_proxies),
    headLimits: { headersMax: max_headers, targetBytesMax: max_target_bytes },
    createTraceparent: tracing.create
      ? createTraceparents({ bytes: randomBytes }, tracing.sample_ratio)
      : undefined,
    createSpanId: tracing.otlp && createSpanIds({ bytes: randomBytes }),
  }
}
