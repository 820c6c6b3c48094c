import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { type RedisOptions as AnyRedisOptions, Cluster, Redis } from 'ioredis'
import { StoreUnavailable } from '../../ports/stores.ts'

type RedisOptions = Omit<AnyRedisOptions, 'replyMapping'>

/** Where Redis is: one of `url`, `cluster`, or `sentinels` with `name`. */
export interface RedisPlace {
  readonly url?: string | undefined
  readonly cluster?: readonly string[] | undefined
  readonly sentinels?: readonly string[] | undefined
  /** Of the master that the Sentinels watch. */
  readonly name?: string | undefined
  /** PEM file of the authorities that may sign the servers' certificates, instead of the usual ones. */
  readonly ca?: string | undefined
}

export interface RedisSettings extends RedisPlace {
  /** Longest wait for an answer in a check, ms. */
  readonly timeout: number
  readonly prefix: string
}

export type Argument = string | number | Buffer

/**
 * A connection (in a cluster: one to each node) that never queues while it is down and never sends
 * anything twice: a call fails at once, or when its time is over.
 */
export interface Connection {
  readonly isCluster: boolean
  /** Rejects with `StoreUnavailable` when there is no answer in `timeoutMs`; it may come to pass still. */
  call(timeoutMs: number, command: string, args: Argument[]): Promise<unknown>
  /** Runs a script by its hash, and by its text where the server does not know it. */
  run(timeoutMs: number, script: Script, keys: readonly string[], args: readonly Argument[]): Promise<unknown>
  isReady(): boolean
  /** Resolves when it can be used; rejects with what is wrong after `timeoutMs`. */
  ready(timeoutMs: number): Promise<void>
  /** `up` after each (re)connect, `down` whenever it is lost; `moved` when a node left the cluster. */
  on(event: 'up' | 'down' | 'moved', listener: () => void): void
  /**
   * Drops the connection and makes a new one; asks the Sentinels again who the master is. In a
   * cluster: those to nodes that do not answer; asks again who has which slots.
   */
  reconnect(): void
  /** The client, for subscriptions. */
  readonly client: Redis | Cluster
  close(): void
}

export interface Script {
  readonly sha: string
  readonly text: string
}

export function toScript(text: string): Script {
  return { text, sha: createHash('sha1').update(text).digest('hex') }
}

const CONNECT_TIMEOUT_MS = 2_000
const RETRY_MS_MAX = 250
const SLOTS_REFRESH_MS = 1_000
const PING_TIMEOUT_MS = 500
const CONNECTING_RETRY_MS = 5

const EVENTS = { up: 'ready', down: 'close', moved: '-node' } as const

const COMMON: RedisOptions = {
  // RESP2 is what every compatible server speaks.
  protocol: 2,
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: false,
  connectTimeout: CONNECT_TIMEOUT_MS,
  // A server that hangs never says goodbye.
  disconnectTimeout: 100,
  disableClientInfo: true,
  retryStrategy: toRetryMs,
}

export function openConnection(settings: RedisPlace, name: string): Connection {
  const client = openClient(settings, name)
  const isCluster = client instanceof Cluster
  let lastError: Error | undefined
  client.on('error', (error: Error) => {
    lastError = error
  })
  let isLeaving = false
  client.on('close', () => {
    isLeaving = false
  })
  const isReady = () => client.status === 'ready' && !isLeaving

  async function call(timeoutMs: number, command: string, args: Argument[]): Promise<unknown> {
    if (!isReady()) throw new StoreUnavailable('Redis is not connected', { cause: lastError })
    try {
      return await (isCluster
        ? callOnceConnected(timeoutMs, command, args)
        : within(timeoutMs, client.call(command, args)))
    } catch (error) {
      if (isMasterGone(error) && !isCluster) reconnect()
      if (client instanceof Cluster && isCut(error)) client.refreshSlotsCache()
      throw error instanceof StoreUnavailable
        ? error
        : new StoreUnavailable(`Redis: ${textOf(error)}`, { cause: error })
    }
  }

  /**
   * Nodes of a cluster are connected to when they are first needed, and until then refuse further
   * calls: at once, so before anything was sent.
   */
  async function callOnceConnected(timeoutMs: number, command: string, args: Argument[]): Promise<unknown> {
    const deadline = performance.now() + timeoutMs
    for (;;) {
      let isSent = false
      setImmediate(() => {
        isSent = true
      })
      try {
        return await within(Math.max(0, deadline - performance.now()), client.call(command, args))
      } catch (error) {
        if (isSent || !isCut(error) || performance.now() >= deadline) throw error
      }
      await new Promise((resolve) => setTimeout(resolve, CONNECTING_RETRY_MS))
    }
  }

  function reconnect(): void {
    if (client instanceof Redis) {
      // Otherwise there is no connection, or it is being given up or made already.
      if (isLeaving || (client.status !== 'ready' && client.status !== 'connect')) return
      isLeaving = true
      client.disconnect(true)
      return
    }
    // Those that answer go on.
    for (const node of client.nodes('all')) {
      within(PING_TIMEOUT_MS, node.ping()).catch(() => node.disconnect(true))
    }
    client.refreshSlotsCache()
  }

  return {
    isCluster,
    client,
    call,
    isReady,
    reconnect,
    async run(timeoutMs, script, keys, args) {
      try {
        return await call(timeoutMs, 'EVALSHA', [script.sha, keys.length, ...keys, ...args])
      } catch (error) {
        if (!textOf(error).includes('NOSCRIPT')) throw error
        return call(timeoutMs, 'EVAL', [script.text, keys.length, ...keys, ...args])
      }
    },
    async ready(timeoutMs) {
      if (isReady()) return
      const came = new Promise<void>((resolve) => client.once('ready', () => resolve()))
      try {
        await within(timeoutMs, came)
      } catch {
        throw new StoreUnavailable(lastError === undefined ? 'no answer in time' : textOf(lastError), {
          cause: lastError,
        })
      }
    },
    on(event, listener) {
      client.on(EVENTS[event], listener)
    },
    close: () => client.disconnect(),
  }
}

/** A single connection for a subscription, that does not reconnect; `attempt` picks the node of a cluster. */
export function openSubscriber(settings: RedisPlace, connectionName: string, attempt: number): Redis {
  const { cluster = [], ca } = settings
  const options =
    cluster.length === 0 ? toOptions(settings) : parseUrl(cluster[attempt % cluster.length] ?? '', ca)
  return new Redis({ ...COMMON, ...options, connectionName, retryStrategy: () => null })
}

function openClient(settings: RedisPlace, connectionName: string): Redis | Cluster {
  const { cluster, ca } = settings
  if (cluster === undefined) return new Redis({ ...COMMON, ...toOptions(settings), connectionName })
  const nodes = cluster.map((text) => parseUrl(text, ca))
  const { db: _, host: _host, port: _port, ...first } = nodes[0] ?? {}
  const { retryStrategy: __, enableOfflineQueue: ___, ...common } = COMMON
  return new Cluster(
    nodes.map(({ host = '127.0.0.1', port = 6379 }) => ({ host, port })),
    {
      enableOfflineQueue: false,
      clusterRetryStrategy: toRetryMs,
      clusterNodeRetryStrategy: toRetryMs,
      maxRedirections: 3,
      // What was on a connection that broke may have been done: it is not sent again.
      retryDelayOnFailover: 0,
      retryDelayOnClusterDown: 20,
      retryDelayOnTryAgain: 1,
      slotsRefreshInterval: SLOTS_REFRESH_MS,
      slotsRefreshTimeout: 1_000,
      redisOptions: { ...common, ...first, connectionName },
    },
  )
}

function toOptions({ url, sentinels, name, ca }: RedisPlace): RedisOptions {
  if (sentinels === undefined) return parseUrl(url ?? 'redis://127.0.0.1:6379', ca)
  const parsed = sentinels.map((text) => parseUrl(text, ca))
  const { username, password, db, tls } = parsed[0] ?? {}
  return {
    sentinels: parsed.map(({ host = '127.0.0.1', port = 26379 }) => ({ host, port })),
    name: name ?? '',
    sentinelRetryStrategy: toRetryMs,
    sentinelCommandTimeout: CONNECT_TIMEOUT_MS,
    ...(username === undefined ? {} : { username, sentinelUsername: username }),
    ...(password === undefined ? {} : { password, sentinelPassword: password }),
    ...(db === undefined ? {} : { db }),
    ...(tls === undefined ? {} : { tls, sentinelTLS: tls, enableTLSForSentinelMode: true }),
  }
}

/** `redis[s]://[USER[:PASSWORD]@]HOST[:PORT][/DB]`. */
function parseUrl(text: string, ca: string | undefined): RedisOptions {
  const url = new URL(text)
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const db = url.pathname.slice(1)
  return {
    host,
    ...(url.port === '' ? {} : { port: Number(url.port) }),
    ...(url.username === '' ? {} : { username: decodeURIComponent(url.username) }),
    ...(url.password === '' ? {} : { password: decodeURIComponent(url.password) }),
    ...(db === '' ? {} : { db: Number(db) }),
    ...(url.protocol === 'rediss:' ? { tls: toTls(host, ca) } : {}),
  }
}

function toTls(host: string, ca: string | undefined): NonNullable<RedisOptions['tls']> {
  return {
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ...(ca === undefined ? {} : { ca: readFileSync(ca) }),
  }
}

function toRetryMs(times: number): number {
  return Math.min(RETRY_MS_MAX, 25 * 2 ** Math.min(times, 4))
}

/**
 * A timer that fires late, because this thread was busy, must not turn an answer that has arrived
 * meanwhile into a failure: so the event loop may read the socket once more.
 */
function within<T>(timeoutMs: number, answer: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      setImmediate(() =>
        reject(new StoreUnavailable(`Redis did not answer within ${Math.ceil(timeoutMs)} ms`)),
      )
    }, timeoutMs)
    answer.then(
      (value) => {
        clearTimeout(timer)
        resolve(value)
      },
      (error: unknown) => {
        clearTimeout(timer)
        reject(error)
      },
    )
  })
}

/** The server that we talk to is (or has become) a replica, or is not fit to write. */
function isMasterGone(error: unknown): boolean {
  return /READONLY|LOADING|MASTERDOWN/.test(textOf(error))
}

/** In a cluster, the first sign that a master is gone. */
function isCut(error: unknown): boolean {
  return /Connection is closed|isn't writeable/.test(textOf(error))
}

export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
