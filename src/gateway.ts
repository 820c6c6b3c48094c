import { createServer } from 'node:net'
import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { createCheckKey } from './app/check-key.ts'
import { applyDeclaredKeyspaces } from './app/keyspaces.ts'
import type { ReloadOutcome } from './app/management.ts'
import { openCertificates } from './certificates.ts'
import type { ConfigFile } from './config/config-file.ts'
import type { Config } from './config/schema.ts'
import { type AdminListener, openAdminListener } from './control-plane/listener.ts'
import { createCacheDirectory } from './data-plane/cache/directory.ts'
import { openTargetWatch } from './data-plane/target-watch.ts'
import { errorText } from './domain/errors.ts'
import type { CachePurger } from './ports/purge.ts'
import { createPurgeMemory, PurgeCounters } from './ports/purge-counters.ts'
import type { Clock, Logger } from './ports/runtime.ts'
import type { KeyStore } from './ports/stores.ts'
import { createReload } from './reload.ts'
import { openPurger } from './stores/purger.ts'
import { openStore } from './stores/store.ts'
import {
  type Counters,
  createCounters,
  createNames,
  type MetricNames,
  sumStoreFigure,
} from './telemetry/counters.ts'
import { createMetrics } from './telemetry/metrics.ts'
import { createClockAnchor, createSystemClock, systemRandom } from './telemetry/system-clock.ts'
import { extension, startThreads, type Threads } from './threads.ts'
import { keepYoungSpaceLarge, tuneV8 } from './v8-tuning.ts'

/**
 * Composition root of the process: config → stores → planes. The control thread runs here; the
 * data-plane threads start in worker.ts and the storage thread in storage-worker.ts.
 */
export interface Gateway {
  /** Base URLs of the two listeners. */
  readonly gatewayUrl: string
  readonly adminUrl: string
  readonly keyStore: KeyStore
  readonly purger: CachePurger
  readonly clock: Clock
  readonly threads: Threads
  /** Works by the configuration as it is now from the answer on, or not at all: then says why not. */
  reload(): Promise<ReloadOutcome>
  /** Drains and closes. Rejects when the last bucket states could not be written. */
  stop(): Promise<void>
}

export interface GatewayOptions {
  /** As it was read from the source. */
  readonly config: Config
  readonly source: Pick<ConfigFile, 'read' | 'watch'>
  readonly logger: Logger
  readonly version: string
  /** Something is broken beyond repair; the process must end. */
  readonly onFatal: (error: Error) => void
}

/** Rejects with an `Error` whose message is for the user: what, where, and what to do. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  tuneV8()
  const { logger, version, source } = options
  let config = options.config
  const anchor = createClockAnchor()
  const clock = createSystemClock(anchor)
  const listen = await reserveGatewayPort(config, logger)
  const names = createNames()
  const counters = createCounters(listen.threads)
  const targets = await openTargetWatch({
    config,
    logger,
    onChange: (seed) => threads.setTargets(seed),
  })
  const metrics = createMetrics({
    counters,
    names,
    version,
    nowMs: clock.wallMs,
    upstreams: targets.figures,
  })
  const purgeMemory = createPurgeMemory()
  const purgeCounters = new PurgeCounters(purgeMemory)
  const certificates = openCertificates({
    config,
    logger,
    onFigures: metrics.setCertificates,
    onOutcome: metrics.setCertificatesGood,
  })
  const store = await openStore({
    config,
    clock,
    logger,
    threads: listen.threads,
    onFatal: options.onFatal,
    spawnStorage: (workerData) =>
      new Worker(new URL(`./storage-worker${extension()}`, import.meta.url), { workerData, name: 'storage' }),
    onUp: metrics.setStoreUp,
    onFlush: (durationMs) => metrics.setFlushSeconds(durationMs / 1000),
  })
  const reload = createReload({
    read: source.read,
    current: () => config,
    swap,
    onOutcome: metrics.countReload,
    logger,
  })
  let unwatch: (() => void) | undefined
  let isStopping = false
  const purger = openPurger({
    config: () => config,
    counters: purgeCounters,
    nowMs: clock.bucketMs,
    forgetRecords: store.forgetRecords,
    logger,
    onPurge: metrics.countPurge,
  })
  let threads: Threads
  let admin: AdminListener
  try {
    await applyKeyspaces(store.keyStore, config, { clock, logger })
    keepYoungSpaceLarge()
    threads = await startThreads({
      count: listen.threads,
      start: {
        config,
        listen,
        tls: certificates.material,
        store: store.seed,
        counters,
        purge: purgeMemory,
        sharesCache: listen.threads > 1 || config.store.redis !== undefined,
        names: names.add(listNames(config)),
        targets: targets.seed(),
        clock: anchor,
        version,
      },
      store,
      cache: createCacheDirectory({ counters: purgeCounters, nowMs: clock.bucketMs, shared: purger.shared }),
      logger,
      onRestart: metrics.countThreadRestart,
    })
  } catch (error) {
    await purger.close()
    await store.close()
    throw error
  }
  try {
    admin = await openAdminListener({
      config: () => config,
      keyStore: store.keyStore,
      checkKey: createCheckKey({ records: store.records, buckets: store.buckets, clock }),
      script: { cacheStore: store.cacheStore, callWindow: store.callWindow, purger },
      reservedPrefixes: listReservedPrefixes(config),
      clock,
      random: systemRandom,
      logger,
      metrics,
      readiness: async () => ({
        ready: threads.count() > 0,
        checks: {
          threads: `${threads.count()} of ${listen.threads}`,
          ...store.listTroubles(),
          ...listDegraded(counters),
        },
      }),
      reload,
      version,
    })
  } catch (error) {
    await threads.close(0)
    await purger.close()
    await store.close()
    throw error
  }

  certificates.start(threads.replaceTls)
  targets.commit(config)

  async function prepare(next: Config): Promise<string | undefined> {
    try {
      return await threads.prepare(next, names.add(listNames(next)), await targets.prepare(next))
    } catch (error) {
      return errorText(error)
    }
  }

  function abandon(): void {
    threads.abandon()
    targets.abandon()
  }

  /** All or nothing: gives what stands in the way, and then the old configuration goes on. */
  async function swap(next: Config): Promise<string | undefined> {
    if (isStopping) return 'the gateway is stopping'
    const problem = await prepare(next)
    if (problem === undefined) {
      try {
        await applyKeyspaces(store.keyStore, next, { clock, logger })
        await threads.commit()
        config = next
        targets.commit(next)
        store.configure(next)
        certificates.configure(next)
        followFile()
        return undefined
      } catch (error) {
        abandon()
        return errorText(error)
      }
    }
    abandon()
    return problem
  }

  function followFile(): void {
    if (config.gateway.watch) unwatch ??= source.watch(() => void reload())
    else unwatch = void unwatch?.()
  }

  followFile()
  return {
    gatewayUrl: toUrl(listen.host, threads.port, config.gateway.tls !== undefined),
    adminUrl: toUrl(admin.address.host, admin.address.port, false),
    keyStore: store.keyStore,
    purger,
    clock,
    threads,

    reload,

    async stop() {
      isStopping = true
      unwatch?.()
      admin.drain()
      threads.drain()
      certificates.close()
      await sleep(config.gateway.shutdown_delay)
      await threads.close(config.gateway.shutdown_timeout)
      targets.close()
      await admin.close()
      await purger.close()
      await store.close()
    },
  }
}

/** Also the default one: another gateway may have its keys in the same Redis. */
function listReservedPrefixes({ store }: Config): readonly string[] {
  return ['dripgate:', store.redis?.prefix ?? 'dripgate:']
}

/** What data-plane threads cannot do at the moment. */
function listDegraded(counters: Counters): Record<string, string> {
  const down = sumStoreFigure(counters, 'isDown')
  const deaf = sumStoreFigure(counters, 'isDeaf')
  return {
    ...(down > 0 ? { store_down: `${down} threads decide without it` } : {}),
    ...(deaf > 0 ? { store_changes: `${deaf} threads cannot hear of changes` } : {}),
  }
}

async function applyKeyspaces(
  keyStore: KeyStore,
  config: Config,
  { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
): Promise<void> {
  const { created, updated } = await applyDeclaredKeyspaces(keyStore, config.keyspaces, clock)
  if (created.length > 0) logger.info('declared keyspaces created', { ksids: created })
  if (updated.length > 0) logger.info('declared keyspaces updated', { ksids: updated })
  await warnOfMissingKeyspaces(keyStore, config, logger)
}

/** A key of such a keyspace cannot exist; mostly it is a typing error. */
async function warnOfMissingKeyspaces(keyStore: KeyStore, config: Config, logger: Logger): Promise<void> {
  for (const route of config.routes) {
    for (const ksid of route.keyspaces) {
      if ((await keyStore.findKeyspace(ksid)) !== undefined) continue
      logger.warn('a route names a keyspace that does not exist; its requests get 401 until it is created', {
        route: route.name,
        ksid,
      })
    }
  }
}

function listNames(config: Config): MetricNames {
  return { routes: config.routes.map((route) => route.name), upstreams: Object.keys(config.upstreams) }
}

interface ReservedPort {
  readonly host: string
  readonly port: number
  readonly reusePort: boolean
  readonly threads: number
}

/**
 * Finds out whether the gateway's port is free, and which one it is where any will do. It is bound
 * without `reusePort` first: with it, a second process would get a share of the connections instead
 * of an error. Platforms without `reusePort` get one thread.
 */
async function reserveGatewayPort(config: Config, logger: Logger): Promise<ReservedPort> {
  const { listen, workers, share_port } = config.gateway
  let threads = workers === 'auto' ? availableParallelism() : workers
  const canShare = await canSharePort()
  if (threads > 1 && !canShare) {
    logger.warn('this platform cannot share a port between threads; the gateway runs with one', {
      wanted: threads,
    })
    threads = 1
  }
  if (share_port && listen.port !== 0) return { ...listen, reusePort: true, threads }
  const port = await bindOnce(listen.host, listen.port, false)
  return { host: listen.host, port, reusePort: canShare || share_port, threads }
}

async function canSharePort(): Promise<boolean> {
  try {
    await bindOnce('127.0.0.1', 0, true)
    return true
  } catch {
    return false
  }
}

function bindOnce(host: string, port: number, reusePort: boolean): Promise<number> {
  const server = createServer()
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(new Error(explainBind(error, host, port), { cause: error })),
    )
    server.listen({ host, port, reusePort }, () => {
      const address = server.address()
      const bound = typeof address === 'object' && address !== null ? address.port : port
      server.close(() => resolve(bound))
    })
  })
}

function explainBind(error: NodeJS.ErrnoException, host: string, port: number): string {
  const where = `gateway.listen ${host}:${port}`
  if (error.code === 'EADDRINUSE') {
    return `${where} is in use by another process. Stop that one, or choose another port. (gateway.share_port: true lets processes share it.)`
  }
  if (error.code === 'EACCES')
    return `${where} needs more rights: choose a port from 1024, or give the process CAP_NET_BIND_SERVICE.`
  if (error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND')
    return `${where} is no address of this machine.`
  return `${where} cannot be opened: ${error.message}`
}

function toUrl(host: string, port: number, isSecure: boolean): string {
  const shown = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host
  return `${isSecure ? 'https' : 'http'}://${shown}:${port}`
}
