import type { Config } from '../../src/config/schema.ts'
import { type RunningGateway, startGateway } from './gateway.ts'

/** Gateway processes that share one Redis, with one keyspace `ks_redis` and a route per way to fail. */
export async function startNodes(
  count: number,
  options: {
    readonly redis: Partial<NonNullable<Config['store']['redis']>>
    readonly upstream: string
    readonly leases?: 'on' | 'off'
    readonly workers?: number
  },
): Promise<RunningGateway[]> {
  const { redis, upstream, leases = 'on', workers = 2 } = options
  const route = (name: string) => ({
    name,
    match: { path: `/${name}` },
    keyspace: 'ks_redis',
    upstream: 'echo',
    on_store_error: name,
  })
  const config = {
    gateway: { workers },
    // Long waits are no failure unless a test is about them: the machine may be busy.
    store: { redis: { timeout: '2s', ...redis } },
    upstreams: { echo: { targets: [upstream] } },
    keyspaces: [{ ksid: 'ks_redis', name: 'redis', keys_prefix: 'rd_', leases }],
    routes: ['deny', 'allow', 'local'].map(route),
  }
  // All at once, so that all of them want to create the keyspace.
  const starting = await Promise.allSettled(Array.from({ length: count }, () => startGateway({ config })))
  const nodes = starting.flatMap((start) => (start.status === 'fulfilled' ? [start.value] : []))
  const failed = starting.find((start) => start.status === 'rejected')
  if (failed === undefined) return nodes
  await Promise.all(nodes.map((node) => node.kill()))
  throw failed.reason
}

export interface CreatedKey {
  readonly kid: string
  readonly token: string
  readonly created_at: string
}

export async function createKey(
  node: RunningGateway,
  [limit, rate, intervalMs]: readonly [number, number, number],
): Promise<CreatedKey> {
  const ratelimit = { limit, refill_rate: rate, refill_interval: intervalMs }
  const { status, body } = await node.rpc('keys.create', { ksid: 'ks_redis', ratelimit })
  if (status !== 200) throw new Error(`keys.create: ${status} ${JSON.stringify(body)}`)
  return body as CreatedKey
}

export async function readMetric(node: RunningGateway, name: string): Promise<number> {
  const text = await (await fetch(`${node.adminUrl}/metrics`)).text()
  const line = text.split('\n').find((each) => each.startsWith(`${name} `))
  if (line === undefined) throw new Error(`there is no metric ${name}`)
  return Number(line.slice(name.length + 1))
}
