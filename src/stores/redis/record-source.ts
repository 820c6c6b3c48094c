import type { StoreFigures } from '../../ports/store-figures.ts'
import { type MaybePromise, type RecordSource, StoreUnavailable } from '../../ports/stores.ts'
import { BoundedMap } from '../bounded-map.ts'
import type { Breaker } from './breaker.ts'
import { type Connection, textOf } from './connection.ts'
import type { Layout } from './layout.ts'
import {
  parseStored,
  type RedisRecord,
  type StoredKeyJson,
  type StoredKeyspace,
  toRecord,
} from './records.ts'

export interface RecordSourceOptions {
  readonly connection: Connection
  readonly layout: Layout
  readonly breakerOf: (tokenHash: string) => Breaker
  readonly figures: StoreFigures
  /** Keyspaces whose keys must not be leased. */
  readonly leasesOff: () => ReadonlySet<string>
  readonly keysMax: number
  readonly unknownMax: number
  readonly timeoutMs: number
}

/** How long a record is believed at most where no message says otherwise, give or take a tenth. */
const RECORD_TTL_MS = 30_000
/** The same while messages cannot be heard. */
const DEAF_TTL_MS = 1_000
const UNKNOWN_TTL_MS = 2_000
const LOADING_MAX = 65_536
const SUSPECTS_MAX = 1_024

interface HeldKeyspace {
  readonly ksid: string
  /** Resolves to `undefined` where there is none. */
  readonly loaded: Promise<StoredKeyspace | undefined>
  readonly epoch: number
  readonly until: number
  isDropped: boolean
}

interface Held {
  readonly record: RedisRecord
  readonly keyspace: HeldKeyspace
  readonly epoch: number
  readonly until: number
}

/**
 * The records that one thread holds, found in Redis by one read (and a second for a keyspace that
 * is not held yet). They are dropped by messages, and after 30 s in any case. While messages cannot
 * be heard, nothing held before is believed, and what is read is believed for a second.
 */
export class RedisRecords implements RecordSource<RedisRecord> {
  readonly #options: RecordSourceOptions
  readonly #held: BoundedMap<Held>
  readonly #unknownUntil: BoundedMap<number>
  readonly #keyspaces = new Map<string, HeldKeyspace>()
  readonly #loading = new Map<string, Promise<RedisRecord | undefined>>()
  readonly #suspects = new BoundedMap<string>(SUSPECTS_MAX)
  #epoch = 0
  #isDeaf = true

  constructor(options: RecordSourceOptions) {
    this.#options = options
    this.#held = new BoundedMap(options.keysMax)
    this.#unknownUntil = new BoundedMap(options.unknownMax)
  }

  find(tokenHash: string): MaybePromise<RedisRecord | undefined> {
    const now = performance.now()
    const held = this.#held.get(tokenHash)
    if (held !== undefined && this.#isGood(held, now) && this.#isGood(held.keyspace, now)) {
      if (!held.keyspace.isDropped) return held.record
    }
    const unknownUntil = this.#unknownUntil.get(tokenHash)
    if (unknownUntil !== undefined && now < unknownUntil) return undefined
    return this.#load(tokenHash)
  }

  /** What was last known of a token, however old, for deciding while Redis is away. */
  findHeld(tokenHash: string): RedisRecord | undefined {
    const held = this.#held.get(tokenHash)
    return held?.keyspace.isDropped === false ? held.record : undefined
  }

  /** A bucket said that this is out of date: then its keyspace may be as well. */
  forget(tokenHash: string): void {
    const held = this.#held.get(tokenHash)
    if (held !== undefined) {
      this.#suspects.set(tokenHash, held.record.limitText)
      this.dropKeyspace(held.record.ksid)
    }
    this.drop(tokenHash)
  }

  /** The key of this token, if it is one, has changed. */
  drop(tokenHash: string): void {
    this.#held.delete(tokenHash)
    this.#unknownUntil.delete(tokenHash)
    this.#loading.delete(tokenHash)
  }

  dropKeyspace(ksid: string): void {
    const held = this.#keyspaces.get(ksid)
    if (held !== undefined) held.isDropped = true
    this.#keyspaces.delete(ksid)
  }

  dropAll(): void {
    this.#epoch++
    this.#unknownUntil.clear()
    this.#loading.clear()
    this.#keyspaces.clear()
  }

  setDeaf(isDeaf: boolean): void {
    this.#isDeaf = isDeaf
    this.#options.figures.set('isDeaf', isDeaf ? 1 : 0)
    this.dropAll()
  }

  #isGood(held: { readonly epoch: number; readonly until: number }, now: number): boolean {
    return held.epoch === this.#epoch && now < held.until
  }

  #ttlMs(): number {
    return this.#isDeaf ? DEAF_TTL_MS : RECORD_TTL_MS * (0.9 + 0.2 * Math.random())
  }

  #load(tokenHash: string): Promise<RedisRecord | undefined> {
    const running = this.#loading.get(tokenHash)
    if (running !== undefined) return running
    const breaker = this.#options.breakerOf(tokenHash)
    if (this.#loading.size >= LOADING_MAX)
      return Promise.reject(new StoreUnavailable('too many tokens wait for Redis'))
    // Whoever drops the token while it is read takes the promise away, so that it is not kept.
    const loading: Promise<RedisRecord | undefined> = breaker
      .guard(() => this.#read(tokenHash, () => this.#loading.get(tokenHash) === loading))
      .catch((error: unknown) => {
        this.#options.figures.add('failed', 1)
        throw error instanceof StoreUnavailable
          ? error
          : new StoreUnavailable(textOf(error), { cause: error })
      })
      .finally(() => {
        if (this.#loading.get(tokenHash) === loading) this.#loading.delete(tokenHash)
      })
    this.#loading.set(tokenHash, loading)
    return loading
  }

  async #read(tokenHash: string, isWanted: () => boolean): Promise<RedisRecord | undefined> {
    const { connection, layout, leasesOff, timeoutMs } = this.#options
    const epoch = this.#epoch
    const until = performance.now() + this.#ttlMs()
    const key = parseStored<StoredKeyJson>(await connection.call(timeoutMs, 'GET', [layout.token(tokenHash)]))
    const keyspace = key === undefined ? undefined : this.#loadKeyspace(key.ksid)
    const stored = await keyspace?.loaded
    if (key === undefined || keyspace === undefined || stored?.number !== key.keyspace) {
      if (isWanted()) this.#unknownUntil.set(tokenHash, performance.now() + UNKNOWN_TTL_MS)
      return undefined
    }
    const found = toRecord(key, stored, !leasesOff().has(key.ksid))
    const record = this.#suspects.get(tokenHash) === found.limitText ? { ...found, isConfirmed: true } : found
    if (isWanted()) this.#held.set(tokenHash, { record, keyspace, epoch, until })
    return record
  }

  #loadKeyspace(ksid: string): HeldKeyspace {
    const held = this.#keyspaces.get(ksid)
    if (held !== undefined && this.#isGood(held, performance.now())) return held
    const { connection, layout, timeoutMs } = this.#options
    const loaded = connection
      .call(timeoutMs, 'GET', [layout.meta(`keyspace:${ksid}`)])
      .then((text) => parseStored<StoredKeyspace>(text))
    const next: HeldKeyspace = {
      ksid,
      loaded,
      epoch: this.#epoch,
      until: performance.now() + this.#ttlMs(),
      isDropped: false,
    }
    this.#keyspaces.set(ksid, next)
    loaded.catch(() => {
      next.isDropped = true
      if (this.#keyspaces.get(ksid) === next) this.#keyspaces.delete(ksid)
    })
    return next
  }
}
