import type { ReloadOutcome } from './app/management.ts'
import type { LoadResult } from './config/load.ts'
import { formatProblem } from './config/problem.ts'
import type { Config } from './config/schema.ts'
import type { Logger } from './ports/runtime.ts'

interface ReloadDeps {
  readonly read: () => LoadResult
  /** The configuration in force. */
  readonly current: () => Config
  /** All or nothing: gives what stands in the way, and then the configuration in force stays. */
  readonly swap: (next: Config) => Promise<string | undefined>
  readonly onOutcome: (isDone: boolean) => void
  readonly logger: Logger
}

/**
 * Gives what reloads: reads the file, checks it, and puts all of it into force or nothing. Reloads
 * run one at a time; whoever asks while one waits for its turn gets the outcome of that one. The
 * promise never rejects.
 */
export function createReload(deps: ReloadDeps): () => Promise<ReloadOutcome> {
  let last: Promise<unknown> = Promise.resolve()
  let waiting: Promise<ReloadOutcome> | undefined
  return () => {
    if (waiting !== undefined) return waiting
    const next = last.then(() => {
      waiting = undefined
      return runReload(deps)
    })
    waiting = next
    last = next
    return next
  }
}

async function runReload({ read, current, swap, onOutcome, logger }: ReloadDeps): Promise<ReloadOutcome> {
  const result = read()
  if (result.kind === 'invalid') {
    const problems = result.problems.map((problem) => formatProblem(problem).split('\n', 1)[0] ?? '')
    logger.error('the new configuration is not valid; the old one goes on', { problems })
    onOutcome(false)
    return { kind: 'refused', problems }
  }
  const before = current()
  const restartNeeded = listFixedChanges(before, result.config)
  for (const setting of restartNeeded) {
    logger.warn('a changed setting takes effect at the next start', { setting })
  }
  const next = keepFixed(before, result.config)
  const problem = await swap(next)
  onOutcome(problem === undefined)
  if (problem !== undefined) {
    logger.error('the new configuration cannot be used; the old one goes on', { problem })
    return { kind: 'refused', problems: [problem] }
  }
  const changed = listChanges(before, next)
  logger.info('configuration reloaded', { config: result.file, changed })
  return { kind: 'done', changed, restartNeeded }
}

/** Settings of the listener and of the store that a running process cannot change. */
const FIXED_GATEWAY_SETTINGS = [
  'listen',
  'workers',
  'engine',
  'share_port',
  'dns',
  'http2',
  'timeouts',
  'min_body_rate',
  'max_header_bytes',
  'max_headers',
] as const

function listFixedChanges(from: Config, to: Config): string[] {
  const changes: string[] = FIXED_GATEWAY_SETTINGS.filter((name) =>
    isChanged(from.gateway[name], to.gateway[name]),
  ).map((name) => `gateway.${name}`)
  if (isTlsFixed(from, to)) changes.push('gateway.tls')
  if (isChanged(from.admin.listen, to.admin.listen)) changes.push('admin.listen')
  if (isChanged(from.admin.script.redis, to.admin.script.redis)) changes.push('admin.script.redis')
  if (isChanged(from.store, to.store)) changes.push('store')
  return changes
}

function keepFixed(from: Config, to: Config): Config {
  const fixed = Object.fromEntries(FIXED_GATEWAY_SETTINGS.map((name) => [name, from.gateway[name]]))
  return {
    ...to,
    gateway: { ...to.gateway, ...fixed, tls: isTlsFixed(from, to) ? from.gateway.tls : to.gateway.tls },
    admin: {
      ...to.admin,
      listen: from.admin.listen,
      script: { ...to.admin.script, redis: from.admin.script.redis },
    },
    store: from.store,
  }
}

/** Certificates may change at any time, but not whether the listener speaks TLS or asks for any. */
function isTlsFixed(from: Config, to: Config): boolean {
  const [before, after] = [from.gateway.tls, to.gateway.tls]
  if (before === undefined || after === undefined) return before !== after
  return (before.client_ca === undefined) !== (after.client_ca === undefined)
}

/** Names of settings that differ, such as `gateway.trusted_proxies` or `routes.orders`; no values. */
function listChanges(from: Config, to: Config): string[] {
  const before = listParts(from)
  const after = listParts(to)
  const names = new Set([...before.keys(), ...after.keys()])
  const changed = [...names].filter((name) => isChanged(before.get(name), after.get(name))).sort()
  const order = (config: Config) => config.routes.map((route) => route.name).join('\n')
  const isReordered = changed.length === 0 && order(from) !== order(to)
  return isReordered ? ['routes'] : changed
}

function listParts(config: Config): Map<string, unknown> {
  const parts = new Map<string, unknown>()
  for (const [section, value] of Object.entries(config)) {
    const named: [string, unknown][] = Array.isArray(value)
      ? value.map((item) => ['ksid' in item ? item.ksid : item.name, item])
      : Object.entries(value)
    for (const [name, part] of named) parts.set(`${section}.${name}`, part)
  }
  return parts
}

function isChanged(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) !== JSON.stringify(b)
}
