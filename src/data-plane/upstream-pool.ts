import { readFileSync } from 'node:fs'
import type { Config } from '../config/schema.ts'
import type { Target } from '../ports/transport.ts'
import type { Engine } from './engines.ts'
import { parseOrigin } from './upstream/origin.ts'
import { createRawUpstreamDeps } from './upstream/raw-http1.ts'
import { createTarget } from './upstream/target.ts'

export interface PooledTarget {
  readonly target: Target
  /** Requests that this thread has with it. */
  inFlight: number
}

export interface Upstream {
  /** Position in the configuration, from 0; the id in metrics. */
  readonly id: number
  readonly name: string
  readonly balance: 'round_robin' | 'least_requests'
  readonly targets: readonly PooledTarget[]
  /** Where the next search starts. */
  turn: number
  /** When a failure was last logged; one line a second is enough. */
  warnedAtMs: number
}

export interface Upstreams {
  find(name: string): Upstream | undefined
  /** Lets running requests finish; resolves when no connection is left. */
  close(): Promise<void>
}

/** Opens no connection yet. Throws where a CA file cannot be read. */
export function createUpstreams(config: Config, engine: Engine): Upstreams {
  const raw = engine === 'raw' ? createRawUpstreamDeps() : undefined
  const byName = new Map<string, Upstream>()
  for (const [id, [name, entry]] of Object.entries(config.upstreams).entries()) {
    const ca = entry.tls.ca === undefined ? undefined : readFileSync(entry.tls.ca, 'utf8')
    const connectMsMax = findConnectMsMax(config, name)
    const targets = entry.targets.map((url) => ({
      target: createTarget({
        origin: parseOrigin(url, { ca, servername: entry.tls.servername }),
        connectionsMax: entry.max_connections,
        connectMsMax,
        raw,
      }),
      inFlight: 0,
    }))
    byName.set(name, {
      id,
      name,
      balance: entry.balance,
      targets,
      turn: 0,
      warnedAtMs: Number.NEGATIVE_INFINITY,
    })
  }
  return {
    find: (name) => byName.get(name),
    close: async () => {
      const targets = [...byName.values()].flatMap((upstream) => upstream.targets)
      await Promise.all(targets.map(({ target }) => target.close()))
    },
  }
}

/**
 * The target whose turn it is, or the one with the fewest requests in flight, but none of those
 * tried before. `undefined` when all were tried.
 */
export function pickTarget(upstream: Upstream, tried: readonly PooledTarget[]): PooledTarget | undefined {
  const { targets, balance } = upstream
  const start = upstream.turn
  upstream.turn = (start + 1) % targets.length
  let best: PooledTarget | undefined
  for (let i = 0; i < targets.length; i++) {
    const candidate = targets[(start + i) % targets.length]
    if (candidate === undefined || tried.includes(candidate)) continue
    if (balance === 'round_robin') return candidate
    if (best === undefined || candidate.inFlight < best.inFlight) best = candidate
  }
  return best
}

function findConnectMsMax(config: Config, name: string): number {
  const ofRoutes = config.routes
    .filter((route) => route.upstream === name)
    .map((route) => route.timeouts.connect ?? 0)
  return Math.max(config.upstreams[name]?.timeouts.connect ?? 0, ...ofRoutes)
}
