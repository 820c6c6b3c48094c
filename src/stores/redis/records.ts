import type { Limit } from '../../domain/bucket.ts'
import type { Expiry, Key, Keyspace } from '../../domain/key.ts'
import type { Policy, ServiceKey } from '../../domain/service-key.ts'
import type { KeyRecord } from '../../ports/stores.ts'
import { shardOf } from './layout.ts'

/** What Redis holds of keys, keyspaces and service keys, as JSON. */

/** Capacity, rate, interval in ms. */
type StoredLimit = readonly [number, number, number]

/** A limit and the instant from which it holds, by the clock of Redis, strictly growing with each change. */
export interface StoredKeyspace {
  readonly number: number
  readonly ksid: string
  readonly name: string
  readonly prefix: string
  readonly limit: StoredLimit | null
  readonly limitAt: number
  readonly requireExpiration: boolean
  readonly createdAt: number
}

export interface StoredKeyJson {
  readonly number: number
  readonly kid: string
  readonly ksid: string
  /** Number of the keyspace: one that was deleted and created anew has another. */
  readonly keyspace: number
  readonly createdAt: number
  readonly expiresAt: readonly [text: string, ms: number] | null
  readonly limit: StoredLimit | null
  readonly limitAt: number
  readonly tokenHash: string
  /** Grows with each change, so that a late copy never replaces a newer one. */
  readonly version: number
}

/** What a thread holds to check a token with. */
export interface RedisRecord extends KeyRecord {
  readonly shard: number
  /** As buckets.lua reads it: "capacity rate interval at"; empty without a limit. */
  readonly limitText: string
  /** Whether tokens may be taken on lease. */
  readonly mayLease: boolean
  /** A bucket called it out of date, but it is what Redis holds: so the bucket must follow. */
  readonly isConfirmed: boolean
}

/** Leases are for buckets that are large and refill at a pace that a lease can follow. */
const LEASE_CAPACITY_MIN = 64
const LEASE_INTERVAL_MS_MIN = 50

export function parseStored<T>(text: unknown): T | undefined {
  return typeof text === 'string' && text !== '' ? (JSON.parse(text) as T) : undefined
}

export function toStoredLimit(limit: Limit | undefined): StoredLimit | null {
  return limit === undefined ? null : [limit.capacity, limit.rate, limit.intervalMs]
}

export function toLimit(stored: StoredLimit | null): Limit | undefined {
  return stored === null ? undefined : { capacity: stored[0], rate: stored[1], intervalMs: stored[2] }
}

export function toKeyspace(stored: StoredKeyspace): Keyspace {
  return {
    ksid: stored.ksid,
    name: stored.name,
    keysPrefix: stored.prefix,
    limit: toLimit(stored.limit),
    requireExpiration: stored.requireExpiration,
    createdAtMs: stored.createdAt,
  }
}

export function toKey(stored: StoredKeyJson, keyspace: StoredKeyspace): Key {
  const ownLimit = toLimit(stored.limit)
  return {
    kid: stored.kid,
    ksid: stored.ksid,
    createdAtMs: stored.createdAt,
    expiresAt: toExpiry(stored.expiresAt),
    ownLimit,
    limit: ownLimit ?? toLimit(keyspace.limit),
  }
}

function toExpiry(stored: StoredKeyJson['expiresAt']): Expiry | undefined {
  return stored === null ? undefined : { text: stored[0], ms: stored[1] }
}

export function toRecord(key: StoredKeyJson, keyspace: StoredKeyspace, mayLease: boolean): RedisRecord {
  const limit = toLimit(key.limit ?? keyspace.limit)
  return {
    kid: key.kid,
    ksid: key.ksid,
    limit,
    createdAtMs: key.createdAt,
    expiresAtMs: key.expiresAt?.[1] ?? Number.POSITIVE_INFINITY,
    shard: shardOf(key.kid),
    limitText: limit === undefined ? '' : toLimitText(limit, effectiveAt(key, keyspace)),
    mayLease:
      mayLease &&
      limit !== undefined &&
      limit.rate > 0 &&
      limit.capacity >= LEASE_CAPACITY_MIN &&
      limit.intervalMs >= LEASE_INTERVAL_MS_MIN,
    isConfirmed: false,
  }
}

/** Since when the limit in force is the one it is. Grows with every change of either. */
export function effectiveAt(key: StoredKeyJson, keyspace: StoredKeyspace): number {
  return Math.max(key.limitAt, keyspace.limitAt)
}

export function toLimitText(limit: Limit, at: number): string {
  return `${limit.capacity} ${limit.rate} ${limit.intervalMs} ${at}`
}

export function parseLimitText(text: string): Limit {
  const [capacity = 0, rate = 0, intervalMs = 0] = text.split(' ', 3).map(Number)
  return { capacity, rate, intervalMs }
}

export interface StoredServiceKey {
  readonly skid: string
  readonly description: string
  readonly admin: boolean
  readonly policies: readonly (readonly [ksid: string, policy: Policy])[]
  readonly roles: readonly string[]
  readonly createdAt: number
  readonly tokenHash: string
}

export function toServiceKey(stored: StoredServiceKey): ServiceKey {
  const { skid, description, admin, policies, roles, createdAt } = stored
  return { skid, description, admin, policies: new Map(policies), roles, createdAtMs: createdAt }
}
