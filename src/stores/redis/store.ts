import type { CallWindow } from '../../ports/call-window.ts'
import { createFigures } from '../../ports/figures.ts'
import type { Clock, Logger } from '../../ports/runtime.ts'
import { STORE_FIGURES } from '../../ports/store-figures.ts'
import type { KeyStore } from '../../ports/stores.ts'
import { type Announcer, createAnnouncer } from './announcer.ts'
import type { BucketTime } from './bucket-store.ts'
import { createCallWindow } from './call-window.ts'
import { openChecker, type RedisChecker } from './checker.ts'
import { openConnection, type RedisSettings, textOf } from './connection.ts'
import { createKeyStore } from './key-store.ts'
import { createLayout } from './layout.ts'
import type { Management } from './management.ts'
import { assertLayout, warnOfSettings } from './server-check.ts'
import { startSweeper } from './sweeper.ts'

export interface RedisStoreOptions {
  readonly settings: RedisSettings
  readonly keysMax: number
  readonly unknownMax: number
  readonly keepExpiredMs: number
  readonly leasesOff: () => ReadonlySet<string>
  readonly clock: Clock
  readonly logger: Logger
  readonly onUp: (isUp: boolean) => void
  /** For tests. */
  readonly time?: BucketTime
}

/** The Redis store as the control thread sees it. */
export interface RedisStore {
  readonly keyStore: KeyStore
  readonly callWindow: CallWindow
  /** For checks on the control thread. */
  readonly checker: RedisChecker
  readonly serve: Announcer['join']
  readonly announce: Announcer['announce']
  /** What does not work as it should, by name; empty when all is well. */
  listTroubles(): Record<string, string>
  /** For tests; happens by itself every few seconds. */
  sweep(): Promise<void>
  close(): Promise<void>
}

const START_TIMEOUT_MS = 5_000
const ADMIN_TIMEOUT_MS = 2_000

/** Rejects with an `Error` for people where Redis cannot be used. */
export async function openRedisStore(options: RedisStoreOptions): Promise<RedisStore> {
  const { settings, logger, keepExpiredMs, clock } = options
  const figures = createFigures(STORE_FIGURES, new Float64Array(STORE_FIGURES.length))
  const checker = openChecker({ ...options, figures, fleetOf: undefined })
  const { layout } = checker
  // Of its own, so that no long list or script of an operator delays a check.
  const connection = openConnection(settings, 'dripgate-admin')
  try {
    await Promise.all([connection.ready(START_TIMEOUT_MS), checker.connection.ready(START_TIMEOUT_MS)])
    await assertLayout(connection, layout, START_TIMEOUT_MS)
  } catch (error) {
    connection.close()
    await checker.close()
    throw new Error(`store.redis (${describe(settings)}) cannot be used: ${textOf(error)}`, { cause: error })
  }
  await warnOfSettings(connection, logger, ADMIN_TIMEOUT_MS)
  connection.on('down', () => {
    logger.warn('the connection to Redis is lost')
    options.onUp(false)
  })
  connection.on('up', () => {
    logger.info('Redis is connected')
    options.onUp(true)
    void warnOfSettings(connection, logger, ADMIN_TIMEOUT_MS)
  })
  options.onUp(true)

  const announcer = createAnnouncer({
    connection,
    layout,
    logger,
    apply: checker.apply,
    onBeat: (isSent) => options.onUp(isSent),
    onLost() {
      connection.reconnect()
      checker.connection.reconnect()
    },
  })
  const management: Management = {
    connection,
    layout,
    timeoutMs: ADMIN_TIMEOUT_MS,
    keepExpiredMs,
    announce: announcer.announce,
    stampOf: (shard, kid) => checker.used.waiting(shard, kid),
    overrideMs: options.time?.overrideMs,
  }
  const sweeper = startSweeper(management, logger, () => clock.wallMs())

  return {
    keyStore: createKeyStore(management),
    callWindow: createCallWindow(connection, layout),
    checker,
    serve: announcer.join,
    announce: announcer.announce,
    sweep: sweeper.sweep,
    listTroubles: () => ({
      ...(connection.isReady() ? {} : { redis: 'not connected' }),
      ...(checker.isHearing() ? {} : { changes: 'cannot be heard; records are read again every second' }),
    }),
    async close() {
      sweeper.close()
      announcer.close()
      await checker.close()
      connection.close()
    },
  }
}

/** For the command line: the key store without anything that runs in the background. */
export async function openRedisKeyStore(
  settings: RedisSettings,
  logger: Logger,
): Promise<Pick<KeyStore, 'createServiceKey'> & { close(): void }> {
  const connection = openConnection(settings, 'dripgate-command')
  const layout = createLayout(settings.prefix)
  try {
    await connection.ready(START_TIMEOUT_MS)
    await assertLayout(connection, layout, START_TIMEOUT_MS)
  } catch (error) {
    connection.close()
    throw new Error(`store.redis (${describe(settings)}) cannot be used: ${textOf(error)}`, { cause: error })
  }
  const announcer = createAnnouncer({
    connection,
    layout,
    logger,
    apply: () => {},
    onBeat: () => {},
    onLost: () => {},
  })
  const { createServiceKey } = createKeyStore({
    connection,
    layout,
    timeoutMs: ADMIN_TIMEOUT_MS,
    keepExpiredMs: 0,
    announce: announcer.announce,
    stampOf: () => undefined,
  })
  return {
    createServiceKey,
    close() {
      announcer.close()
      connection.close()
    },
  }
}

/** Where it is, without user and password. */
function describe({ url, cluster, sentinels }: RedisSettings): string {
  return [url, cluster, sentinels]
    .flat()
    .filter((text) => text !== undefined)
    .map((text) => new URL(text).host)
    .join(', ')
}
