import { createHash, randomUUID } from 'node:crypto'
import type { CheckKey } from '../../src/app/check-key.ts'
import { type Config, configSchema } from '../../src/config/schema.ts'
import { compileRanges } from '../../src/data-plane/address-ranges.ts'
import { createThreadCache, type ThreadCache } from '../../src/data-plane/cache/thread-cache.ts'
import type { Engine, Engines } from '../../src/data-plane/engines.ts'
import type { Plan } from '../../src/data-plane/exchange.ts'
import { openFront } from '../../src/data-plane/front/open-front.ts'
import { createPipeline } from '../../src/data-plane/pipeline.ts'
import { compileRoutes } from '../../src/data-plane/route-table.ts'
import { createTargetDirectory } from '../../src/data-plane/target-directory.ts'
import { createUpstreams } from '../../src/data-plane/upstream-pool.ts'
import { CACHE_FIGURES } from '../../src/ports/cache-figures.ts'
import { createFigures } from '../../src/ports/figures.ts'
import { createPurgeMemory } from '../../src/ports/purge-counters.ts'
import type { FinishedExchange, Logger } from '../../src/ports/runtime.ts'
import { createTlsMaterial } from './test-tls.ts'

/** The config as in the file; `upstream` is short for the one upstream of most tests. */
export interface GatewaySettings {
  readonly upstream?: string | readonly string[]
  readonly gateway?: object
  readonly upstreams?: object
  readonly routes?: readonly object[]
  readonly checkKey?: CheckKey
  readonly checkLocally?: CheckKey
  /** Of cached answers, in milliseconds; else time goes by as it does. */
  readonly cacheClock?: () => number
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer }
}

export interface TestGateway {
  readonly port: number
  /** Finished exchanges, in order. */
  readonly records: FinishedExchange[]
  readonly cache: ThreadCache
  /** Logged errors: tests of good behaviour expect none. */
  readonly errors: unknown[]
  /** What the warnings that were logged gave as their cause. */
  readonly warnings: string[]
  /** Why connections of HTTP/2 were cut off. */
  readonly cutOffs: string[]
  reload(settings: GatewaySettings): void
  drain(): void
  close(graceMs?: number): Promise<void>
}

export type StartGateway = (settings: GatewaySettings) => Promise<TestGateway>

export const TOKEN = 'good_token'
export const KSID = 'ks_test'

export function hashToken(token: string): string {
  return createHash('sha256').update(Buffer.from(token, 'latin1')).digest('hex')
}

/** Knows one token, without a limit. */
export const checkOneToken: CheckKey = (tokenHash) =>
  tokenHash === hashToken(TOKEN)
    ? { kind: 'allowed', kid: 'k_1', ksid: KSID, limit: undefined, remaining: 0, lastRefilledMs: 0, nowMs: 0 }
    : { kind: 'unknown' }

/** Every pair of a front and an upstream client. */
export const ENGINE_PAIRS: readonly Engines[] = [
  { front: 'node', upstream: 'node' },
  { front: 'raw', upstream: 'raw' },
  { front: 'raw', upstream: 'node' },
  { front: 'node', upstream: 'raw' },
]

export function startGatewayWith(engines: Engines): StartGateway {
  return (settings) => start(engines, settings)
}

async function start(engines: Engines, settings: GatewaySettings): Promise<TestGateway> {
  const records: FinishedExchange[] = []
  const errors: unknown[] = []
  const warnings: string[] = []
  const cutOffs: string[] = []
  const config = parseConfig(settings)
  let plan = createPlan(settings, engines.upstream)
  const cache = createCache(config.gateway.cache.memory, settings.cacheClock)
  const pipeline = createPipeline(
    {
      checkKey: settings.checkKey ?? checkOneToken,
      checkLocally: settings.checkLocally,
      hashToken,
      cache,
      recorder: { record: (exchange) => records.push(toRecord(exchange)) },
      clock: { bucketMs: () => Date.now(), wallMs: () => Date.now() },
      createRequestId: randomUUID,
      logger: collectTroubles(errors, warnings),
    },
    plan,
  )
  const { gateway } = config
  const front = await openFront(engines.front, {
    handler: pipeline,
    host: '127.0.0.1',
    port: 0,
    reusePort: true,
    tls: settings.tls && createTlsMaterial([settings.tls]),
    headLimits: plan.headLimits,
    headerBytesMax: gateway.max_header_bytes,
    headersTimeoutMs: gateway.timeouts.headers,
    idleTimeoutMs: gateway.timeouts.idle,
    bodyTimeoutMs: gateway.timeouts.body,
    bodyBytesPerSecondMin: gateway.min_body_rate,
    http2: gateway.http2,
    onConnections: () => {},
    onCutOff: (reason) => cutOffs.push(reason),
  })
  return {
    port: front.address.port,
    records,
    errors,
    warnings,
    cache,
    cutOffs,
    reload: (next) => {
      const { upstreams } = plan
      plan = createPlan(next, engines.upstream)
      plan.upstreams.succeed(upstreams)
      pipeline.replace(plan)
    },
    drain: () => front.drain(),
    close: async (graceMs = 0) => {
      await front.close(graceMs)
      await plan.upstreams.close()
    },
  }
}

function createCache(bytesMax: number, nowMs = () => performance.now()): ThreadCache {
  const figures = createFigures(CACHE_FIGURES, new Float64Array(CACHE_FIGURES.length))
  const cache = createThreadCache({ bytesMax, memory: createPurgeMemory(), figures, nowMs })
  cache.counters.setLease(Number.POSITIVE_INFINITY)
  return cache
}

function parseConfig(settings: GatewaySettings) {
  const { upstream, upstreams, routes, gateway } = settings
  const targets = typeof upstream === 'string' ? [upstream] : upstream
  return configSchema.parse({
    gateway: gateway ?? {},
    upstreams: upstreams ?? { main: { targets } },
    routes: routes ?? [{ name: 'main', upstream: 'main' }],
  })
}

function createPlan(settings: GatewaySettings, engine: Engine): Plan {
  const config = parseConfig(settings)
  return {
    routes: compileRoutes(config),
    upstreams: createUpstreams(config, engine, listTargets(config)),
    trustedProxies: compileRanges(config.gateway.trusted_proxies),
    headLimits: { headersMax: config.gateway.max_headers, targetBytesMax: config.gateway.max_target_bytes },
  }
}

/** Each plan has health of its own; targets are named by their addresses. */
function listTargets(config: Config) {
  return createTargetDirectory().list(config, (hostname) => [hostname])
}

/** The pipeline may reuse the object. */
function toRecord(exchange: FinishedExchange): FinishedExchange {
  const { routeId, routeName, decision, status, method, path, startMs, durationMs } = exchange
  const { upstreamName, upstreamId, upstreamMs, bytesIn, bytesOut, requestId, kid, remoteAddress, aborted } =
    exchange
  const { cacheOutcome } = exchange
  return {
    ...{ routeId, routeName, decision, status, method, path, startMs, durationMs },
    ...{ upstreamName, upstreamId, upstreamMs, bytesIn, bytesOut, requestId, kid, remoteAddress, aborted },
    cacheOutcome,
  }
}

function collectTroubles(errors: unknown[], warnings: string[]): Logger {
  const ignore = () => {}
  return {
    debug: ignore,
    info: ignore,
    warn: (_message, fields) => warnings.push(String(fields?.['cause'])),
    error: (message, fields) => errors.push([message, fields]),
  }
}

/** Resolves once the condition holds; fails after ten seconds. */
export async function eventually(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 10_000
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`never: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
