import { readFileSync } from 'node:fs'
import type { Config } from '../config/schema.ts'
import type { Target } from '../ports/transport.ts'
import type { Engine } from './engines.ts'
import { type Backoff, HealthCell } from './health-cell.ts'
import type { Endpoint, TargetSeed } from './target-directory.ts'
import { type RetryRule, Traffic } from './traffic.ts'
import { type Origin, parseOrigin } from './upstream/origin.ts'
import { createRawUpstreamDeps } from './upstream/raw-http1.ts'
import { createTarget } from './upstream/target.ts'

type UpstreamConfig = Config['upstreams'][string]

/** One address of a target. */
export interface PooledTarget {
  readonly target: Target
  readonly health: HealthCell
  /** Of the target, in the configuration. */
  readonly position: number
  readonly address: string
  /** What its connections were opened with: one that is opened alike may use them too. */
  readonly opening: string
  /** Requests that this thread has with it. */
  inFlight: number
  /** More of them wait for a connection. */
  readonly inFlightMax: number
}

export interface EjectionRule {
  /** In a row; 0 never ejects. */
  readonly failures: number
  readonly backoff: Backoff
  /** Most of the addresses, in percent, that may be out at the same time. */
  readonly percentMax: number
  readonly counts5xx: boolean
}

export interface CircuitRule {
  /** Of one thread within one window; 0 never opens. */
  readonly failures: number
  /** Of all requests of the window, at least. */
  readonly percent: number
  readonly backoff: Backoff
}

export interface Upstream {
  /** Position in the configuration, from 0; the id in metrics. */
  readonly id: number
  readonly name: string
  readonly balance: 'round_robin' | 'least_requests'
  /** All addresses of all targets. Replaced as a whole when the addresses of a name change. */
  targets: readonly PooledTarget[]
  readonly ejection: EjectionRule
  readonly retryRule: RetryRule
  readonly circuitRule: CircuitRule
  readonly circuit: HealthCell
  readonly traffic: Traffic
  /** Between two active checks; 0 without any. */
  readonly checkIntervalMs: number
  /** Where the next search starts. */
  turn: number
  /** When a failure was last logged; one line a second is enough. */
  warnedAtMs: number
}

export interface Upstreams {
  find(name: string): Upstream | undefined
  /** Takes over new addresses; what runs with the old ones may finish. */
  replaceTargets(seed: TargetSeed): void
  /** Takes over the connections of all targets that are opened as before, and closes the others. */
  succeed(before: Upstreams): void
  list(): readonly PooledTarget[]
  /** Lets running requests finish; resolves when no connection is left. */
  close(): Promise<void>
}

/** Nothing where the endpoint is of another configuration. */
type OpenTarget = (endpoint: Endpoint) => PooledTarget[]

/** Opens no connection yet. Throws where a CA file cannot be read. */
export function createUpstreams(config: Config, engine: Engine, seed: TargetSeed): Upstreams {
  const raw = engine === 'raw' ? createRawUpstreamDeps() : undefined
  const byName = new Map<string, { readonly upstream: Upstream; readonly open: OpenTarget }>()
  for (const [id, [name, entry]] of Object.entries(config.upstreams).entries()) {
    const origins = readOrigins(entry)
    const connectMsMax = findConnectMsMax(config, name)
    const open: OpenTarget = ({ position, url, address, slot }) => {
      const origin = origins[position]
      if (origin?.url !== url) return []
      const connectionsMax = entry.max_connections
      const target = createTarget({ origin: { ...origin, address }, connectionsMax, connectMsMax, raw })
      const health = new HealthCell(seed.memory, slot)
      const opening = JSON.stringify([name, position, origin, address, connectionsMax, connectMsMax])
      return [{ target, health, position, address, opening, inFlight: 0, inFlightMax: connectionsMax }]
    }
    const places = seed.upstreams.get(name)
    if (places === undefined) throw new Error(`no targets are known of upstream ${name}`)
    const upstream: Upstream = {
      id,
      name,
      balance: entry.balance,
      targets: places.endpoints.flatMap(open),
      ...compileRules(entry),
      circuit: new HealthCell(seed.memory, places.slot),
      traffic: new Traffic(),
      checkIntervalMs: entry.health_check?.interval ?? 0,
      turn: 0,
      warnedAtMs: Number.NEGATIVE_INFINITY,
    }
    byName.set(name, { upstream, open })
  }
  const list = () => [...byName.values()].flatMap(({ upstream }) => upstream.targets)
  return {
    find: (name) => byName.get(name)?.upstream,
    list,

    replaceTargets({ upstreams }) {
      for (const [name, { upstream, open }] of byName) {
        const { targets } = upstream
        const places = upstreams.get(name)
        if (places === undefined) continue
        upstream.targets = mergeTargets(targets, places.endpoints, open)
        for (const target of targets) if (!upstream.targets.includes(target)) void target.target.close()
      }
    },

    succeed(before) {
      const open = new Map(before.list().map(({ opening, target }) => [opening, target]))
      for (const { upstream } of byName.values()) {
        upstream.targets = upstream.targets.map((fresh) => {
          const target = open.get(fresh.opening)
          if (target === undefined) return fresh
          open.delete(fresh.opening)
          void fresh.target.close()
          return { ...fresh, target }
        })
      }
      for (const target of open.values()) void target.close()
    },

    close: async () => {
      await Promise.all(list().map(({ target }) => target.close()))
    },
  }
}

/** What is there already stays, with its connections. */
function mergeTargets(
  targets: readonly PooledTarget[],
  endpoints: readonly Endpoint[],
  open: OpenTarget,
): PooledTarget[] {
  const known = new Map(targets.map((target) => [`${target.position} ${target.address}`, target]))
  return endpoints.flatMap(
    (endpoint) => known.get(`${endpoint.position} ${endpoint.address}`) ?? open(endpoint),
  )
}

/** By position. Throws where a file of `tls` cannot be read. */
export function readOrigins({ targets, tls, protocol }: UpstreamConfig): Origin[] {
  const read = (file: string | undefined) => (file === undefined ? undefined : readFileSync(file, 'utf8'))
  const options = {
    ca: read(tls.ca),
    cert: read(tls.cert),
    key: read(tls.key),
    servername: tls.servername,
    isHttp2: protocol === 'http2',
  }
  return targets.map((url) => parseOrigin(url, options))
}

function compileRules({ ejection, retries, circuit }: UpstreamConfig) {
  return {
    ejection: {
      failures: ejection.failures,
      backoff: { ms: ejection.backoff, msMax: Math.max(ejection.backoff, ejection.backoff_max) },
      percentMax: ejection.max_percent,
      counts5xx: ejection.count_5xx,
    },
    retryRule: { max: retries.max, percent: retries.budget_percent, min: retries.budget_min },
    circuitRule: {
      failures: circuit.failures,
      percent: circuit.percent,
      backoff: { ms: circuit.open_for, msMax: circuit.open_for },
    },
  }
}

function findConnectMsMax(config: Config, name: string): number {
  const ofRoutes = config.routes
    .filter((route) => route.upstream === name)
    .map((route) => route.timeouts.connect ?? 0)
  return Math.max(config.upstreams[name]?.timeouts.connect ?? 0, ...ofRoutes)
}
