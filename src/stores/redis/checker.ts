import { randomBytes } from 'node:crypto'
import type { StoreFigures } from '../../ports/store-figures.ts'
import type { BucketStore, RecordSource } from '../../ports/stores.ts'
import { Breaker } from './breaker.ts'
import { type BucketTime, RedisBuckets } from './bucket-store.ts'
import { type Change, listenForChanges } from './changes.ts'
import { type Connection, openConnection, type RedisSettings } from './connection.ts'
import { type Fleet, joinFleet } from './fleet.ts'
import { createLayout, type Layout, shardOf } from './layout.ts'
import { LocalBuckets } from './local-buckets.ts'
import { RedisRecords } from './record-source.ts'
import type { RedisRecord } from './records.ts'
import { UsedStamps } from './used-stamps.ts'

export interface CheckerOptions {
  readonly settings: RedisSettings
  readonly keysMax: number
  readonly unknownMax: number
  readonly figures: StoreFigures
  readonly leasesOff: () => ReadonlySet<string>
  readonly time?: BucketTime
  /** Data-plane threads of this node; `undefined` where this thread is none of them. */
  readonly fleetOf: number | undefined
}

/** What one thread needs to check keys over Redis: its own connections and memory. */
export interface RedisChecker {
  readonly records: RecordSource<RedisRecord>
  readonly buckets: BucketStore<RedisRecord>
  /** Both at once, for `on_store_error: local`. */
  readonly local: RecordSource<RedisRecord> & BucketStore<RedisRecord>
  readonly connection: Connection
  readonly layout: Layout
  readonly used: UsedStamps
  /** Forgets what has changed; from the return on, nothing here acts by the old state. */
  apply(change: Change): void
  isHearing(): boolean
  close(): Promise<void>
}

const SHARDS_OF_TOKENS = 16

export function openChecker(options: CheckerOptions): RedisChecker {
  const { settings, figures, leasesOff, keysMax, unknownMax } = options
  const layout = createLayout(settings.prefix)
  const name = `dripgate-${randomBytes(6).toString('hex')}`
  const connection = openConnection(settings, name)
  const used = new UsedStamps(connection, layout)
  const fleet: Fleet | undefined =
    options.fleetOf === undefined ? undefined : joinFleet(connection, layout, name, options.fleetOf)
  const threads = () => fleet?.threads() ?? 1
  let hearing = false

  const breakers = Array.from({ length: connection.isCluster ? 2 * SHARDS_OF_TOKENS : 1 }, () => {
    return new Breaker({
      onLost: () => connection.reconnect(),
      onChange(isOpen) {
        figures.set('isDown', breakers.some((each) => each.isOpen) ? 1 : 0)
        if (!isOpen) local.clear()
      },
    })
  })
  const breakerAt = (index: number) => breakers[index % breakers.length] as Breaker
  const records = new RedisRecords({
    connection,
    layout,
    figures,
    leasesOff,
    keysMax,
    unknownMax,
    timeoutMs: settings.timeout,
    breakerOf: (tokenHash) => breakerAt(SHARDS_OF_TOKENS + Number.parseInt(tokenHash.slice(-1), 16)),
  })
  const buckets = new RedisBuckets({
    connection,
    layout,
    figures,
    breakerOf: breakerAt,
    time: options.time ?? { monotonicMs: () => performance.now() },
    timeoutMs: settings.timeout,
    lessees: threads,
    statesMax: keysMax,
    stamp: (record, wallMs) => used.stamp(record, wallMs),
  })
  const local = new LocalBuckets({
    findHeld: (tokenHash) => records.findHeld(tokenHash),
    lastKnown: (record) => buckets.lastKnown(record),
    threads,
    statesMax: keysMax,
    unavailable: () => breakerAt(0).refusal(),
  })
  connection.on('moved', () => buckets.startEpoch())
  connection.on('up', () => {
    buckets.startEpoch()
    for (const breaker of breakers) breaker.hint()
  })

  function apply(change: Change): void {
    switch (change.kind) {
      case 'gone':
        used.forget(shardOf(change.kid), change.kid)
        records.drop(change.tokenHash)
        buckets.forget(change.kid)
        return
      case 'token':
        records.drop(change.tokenHash)
        buckets.forget(change.kid)
        return
      case 'keyspace':
        records.dropKeyspace(change.ksid)
        buckets.forgetAll()
        return
      case 'records':
        records.dropAll()
        return
      case 'all':
        records.dropAll()
        buckets.forgetAll()
    }
  }

  figures.set('isDeaf', 1)
  const listener = listenForChanges({
    settings,
    layout,
    name,
    onChange: apply,
    onHearing(isHearing) {
      hearing = isHearing
      records.setDeaf(!isHearing)
    },
  })

  return {
    records,
    buckets,
    local,
    connection,
    layout,
    used,
    apply,
    isHearing: () => hearing,
    async close() {
      listener.close()
      if (connection.isReady()) await Promise.all([buckets.close(), used.close(), fleet?.close()])
      connection.close()
    },
  }
}
