import { randomBytes } from 'node:crypto'
import type { Limit } from '../../src/domain/bucket.ts'
import { createFigures } from '../../src/ports/figures.ts'
import type { Clock } from '../../src/ports/runtime.ts'
import { STORE_FIGURES, type StoreFigure } from '../../src/ports/store-figures.ts'
import type { TakeResult } from '../../src/ports/stores.ts'
import type { BucketTime } from '../../src/stores/redis/bucket-store.ts'
import { openChecker, type RedisChecker } from '../../src/stores/redis/checker.ts'
import type { RedisSettings } from '../../src/stores/redis/connection.ts'
import { shardOf } from '../../src/stores/redis/layout.ts'
import { type RedisRecord, toLimitText } from '../../src/stores/redis/records.ts'
import { openRedisStore, type RedisStore } from '../../src/stores/redis/store.ts'
import { createFakeLogger, FakeClock } from './fakes.ts'

/** The fake clock starts in 2023, and a server keeps what expired by its own. */
const KEEP_EXPIRED_MS = 20 * 365 * 86_400_000

/** Where Redis is. Long waits are no failure unless a test is about them: the machine may be busy. */
export type RedisPlace = Omit<RedisSettings, 'prefix' | 'timeout'>
export type TestSettings = Omit<RedisSettings, 'timeout'> & { readonly timeout?: number }

export function uniquePrefix(): string {
  return `test-${randomBytes(6).toString('hex')}:`
}

/** With a fake clock, that clock replaces the server's, and time stands still where it does. */
export function openTestRedis(
  settings: TestSettings,
  clock: Clock,
  options: { readonly keepExpiredMs?: number; readonly leasesOff?: readonly string[] } = {},
): Promise<RedisStore & { readonly logger: ReturnType<typeof createFakeLogger> }> {
  const logger = createFakeLogger()
  const leasesOff = new Set(options.leasesOff ?? [])
  return openRedisStore({
    settings: { timeout: 2_000, ...settings },
    clock,
    logger,
    keysMax: 10_000,
    unknownMax: 1_000,
    keepExpiredMs: options.keepExpiredMs ?? KEEP_EXPIRED_MS,
    leasesOff: () => leasesOff,
    onUp: () => {},
    ...(clock instanceof FakeClock
      ? { time: { monotonicMs: () => clock.now, overrideMs: () => clock.now } }
      : {}),
  }).then((store) => ({ ...store, logger }))
}

/** One thread of a node, with its own connections, and what it counts. */
export interface TestNode extends AsyncDisposable {
  readonly checker: RedisChecker
  readonly figure: (name: StoreFigure) => number
  take(record: RedisRecord, cost?: number): Promise<TakeResult>
  close(): Promise<void>
}

export async function openTestNode(
  settings: TestSettings,
  time?: BucketTime,
  readyWithinMs = 5_000,
): Promise<TestNode> {
  const cells = new Float64Array(STORE_FIGURES.length)
  const checker = openChecker({
    settings: { timeout: 2_000, ...settings },
    keysMax: 100_000,
    unknownMax: 1_000,
    figures: createFigures(STORE_FIGURES, cells),
    leasesOff: () => new Set(),
    fleetOf: 1,
    ...(time === undefined ? {} : { time }),
  })
  await checker.connection.ready(readyWithinMs).catch(async (error: unknown) => {
    await checker.close()
    throw error
  })
  return {
    checker,
    figure: (name) => cells[STORE_FIGURES.indexOf(name)] ?? 0,
    take: async (record, cost = 1) => checker.buckets.take(record, cost, 0, Date.now()),
    close: () => checker.close(),
    [Symbol.asyncDispose]: () => checker.close(),
  }
}

let serial = 0

/** A record as the management data would give it, for a bucket that nobody has used yet. */
export function recordOf(
  limit: Limit,
  more: Partial<RedisRecord> & { readonly at?: number } = {},
): RedisRecord {
  const kid = more.kid ?? `k_test${++serial}`
  return {
    kid,
    ksid: 'ks_test',
    limit,
    createdAtMs: 1_700_000_000_000,
    expiresAtMs: Number.POSITIVE_INFINITY,
    shard: shardOf(kid),
    limitText: toLimitText(limit, more.at ?? 0),
    mayLease: false,
    isConfirmed: false,
    ...more,
  }
}
