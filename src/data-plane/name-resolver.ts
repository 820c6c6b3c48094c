import { promises as dns } from 'node:dns'
import { readFile } from 'node:fs/promises'
import { isIP, isIPv4 } from 'node:net'
import { networkInterfaces } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from '../ports/runtime.ts'

/*
 * The addresses of host names. Names in the hosts file, and those that only the system's resolver
 * knows (search domains, mDNS), are looked up again after a fixed time; all others when their time
 * to live is over. Nobody waits for it but a start and a reload. Lives on the control thread.
 */

const HOSTS_FILE = '/etc/hosts'
const FIXED_PERIOD_MS = 30_000
const TTL_MS_MIN = 1000
const TTL_MS_MAX = 3_600_000
const RETRY_MS = 2000
const QUERY = { timeout: 1500, tries: 2 }
const LOOKUP_MS_MAX = 10_000
const ADDRESSES_MAX = 256
/** Answers that say that there is nothing, and not that nobody knows. */
const EMPTY_CODES: ReadonlySet<unknown> = new Set(['ENODATA', 'ENOTFOUND'])

interface Finding {
  readonly addresses: readonly string[]
  readonly validMs: number
}

interface Name {
  addresses: readonly string[]
  /** It has been asked for at least once. */
  readonly known: PromiseWithResolvers<void>
  isFailing: boolean
  timer: NodeJS.Timeout | undefined
  isDropped: boolean
}

export interface NameResolver {
  /** Follows these names beside those it follows already; resolves when all were asked for once. */
  learn(names: readonly string[], withinMs: number): Promise<void>
  /** The last ones known; none where it was never resolved. An address is its own. */
  addresses(name: string): readonly string[]
  /** Follows no others any more. */
  keep(names: readonly string[]): void
  close(): void
}

/** `servers` as `ADDRESS` or `ADDRESS:PORT`; none: those of the system. */
export function createNameResolver(deps: {
  readonly servers: readonly string[]
  readonly logger: Logger
  readonly onChange: () => void
}): NameResolver {
  const { servers, logger, onChange } = deps
  const names = new Map<string, Name>()
  const source = createSource(servers)

  async function refresh(hostname: string, name: Name): Promise<void> {
    let validMs = RETRY_MS
    try {
      const found = await source(hostname, name.addresses)
      if (name.isDropped) return
      validMs = found.validMs
      accept(hostname, name, found.addresses)
    } catch (error) {
      if (name.isDropped) return
      if (!name.isFailing) {
        const cause = error instanceof Error ? error.message : String(error)
        const { addresses } = name
        logger.warn('a target cannot be resolved; its last known addresses stay in use', {
          host: hostname,
          cause,
          addresses,
        })
      }
      name.isFailing = true
    }
    name.known.resolve()
    name.timer = setTimeout(() => void refresh(hostname, name), validMs).unref()
  }

  function accept(hostname: string, name: Name, addresses: readonly string[]): void {
    const hasChanged = addresses.join() !== name.addresses.join()
    if (hasChanged || name.isFailing) logger.info('target resolved', { host: hostname, addresses })
    name.isFailing = false
    if (!hasChanged) return
    name.addresses = addresses
    onChange()
  }

  return {
    async learn(hostnames, withinMs) {
      for (const hostname of hostnames) {
        if (isIP(hostname) !== 0 || names.has(hostname)) continue
        const name: Name = {
          addresses: [],
          known: Promise.withResolvers(),
          isFailing: false,
          timer: undefined,
          isDropped: false,
        }
        names.set(hostname, name)
        void refresh(hostname, name)
      }
      const all = Promise.all(hostnames.map((hostname) => names.get(hostname)?.known.promise))
      const patience = new AbortController()
      await Promise.race([all, sleep(withinMs, undefined, { signal: patience.signal }).catch(() => {})])
      patience.abort()
    },

    addresses: (hostname) => (isIP(hostname) !== 0 ? [hostname] : (names.get(hostname)?.addresses ?? [])),

    keep(hostnames) {
      const kept = new Set(hostnames)
      for (const [hostname, name] of names) {
        if (kept.has(hostname)) continue
        name.isDropped = true
        clearTimeout(name.timer)
        names.delete(hostname)
      }
    },

    close() {
      this.keep([])
    },
  }
}

type Find = (hostname: string, before: readonly string[]) => Promise<Finding>

function createSource(servers: readonly string[]): Find {
  const resolver = new dns.Resolver(QUERY)
  if (servers.length > 0) resolver.setServers(servers)
  // One at a time: the system's resolver blocks a thread that the whole process needs for files.
  let lastLookup: Promise<unknown> = Promise.resolve()

  async function lookUp(hostname: string): Promise<Finding> {
    const turn = lastLookup.then(async () => {
      const found = await withDeadline(dns.lookup(hostname, { all: true }))
      return found.map(({ address }) => address)
    })
    lastLookup = turn.catch(() => {})
    return { addresses: tidy(await turn), validMs: FIXED_PERIOD_MS }
  }

  async function query(hostname: string, before: readonly string[]): Promise<Finding> {
    const answers = await Promise.allSettled([
      resolver.resolve4(hostname, { ttl: true }),
      resolver.resolve6(hostname, { ttl: true }),
    ])
    const records: { address: string; ttl: number }[] = []
    let failure: unknown
    for (const [index, answer] of answers.entries()) {
      if (answer.status === 'fulfilled') {
        records.push(...answer.value)
        continue
      }
      failure ??= answer.reason
      if (EMPTY_CODES.has(answer.reason?.code)) continue
      // Nobody knows at the moment, so what was known of this family stays.
      const kept = before.filter((address) => isIPv4(address) === (index === 0))
      records.push(...kept.map((address) => ({ address, ttl: RETRY_MS / 1000 })))
    }
    if (answers.every(({ status }) => status === 'rejected')) throw failure
    if (records.length === 0) throw new Error('it has no addresses')
    const ttlMs = Math.min(...records.map(({ ttl }) => ttl * 1000))
    const addresses = tidy(records.map(({ address }) => address))
    return { addresses, validMs: Math.min(TTL_MS_MAX, Math.max(TTL_MS_MIN, ttlMs)) }
  }

  return async (hostname, before) => {
    if (await isOfHostsFile(hostname)) return lookUp(hostname)
    try {
      return await query(hostname, before)
    } catch (error) {
      if (servers.length > 0) throw error
      return lookUp(hostname)
    }
  }
}

async function isOfHostsFile(hostname: string): Promise<boolean> {
  const name = hostname.toLowerCase()
  if (name === 'localhost' || name.endsWith('.localhost')) return true
  const text = await readFile(HOSTS_FILE, 'utf8').catch(() => '')
  return text.split('\n').some((line) => {
    const [, ...names] = (line.split('#')[0] ?? '').trim().toLowerCase().split(/\s+/)
    return names.includes(name)
  })
}

/** Each once, in a fixed order, and only those that this machine has a way to. */
function tidy(addresses: readonly string[]): string[] {
  const all = [...new Set(addresses)].sort()
  const own = Object.values(networkInterfaces()).flatMap((each) => each ?? [])
  const reachable = all.filter((address) => {
    const family = isIPv4(address) ? 'IPv4' : 'IPv6'
    const internal = address === '::1' || address.startsWith('127.')
    return own.some(
      (each) => each.family === family && each.internal === internal && !each.address.startsWith('fe80:'),
    )
  })
  return (reachable.length > 0 ? reachable : all).slice(0, ADDRESSES_MAX)
}

async function withDeadline<T>(promise: Promise<T>): Promise<T> {
  const patience = new AbortController()
  const late = sleep(LOOKUP_MS_MAX, undefined, { signal: patience.signal }).then(() => {
    throw new Error(`no answer within ${LOOKUP_MS_MAX} ms`)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    late.catch(() => {})
    patience.abort()
  }
}
