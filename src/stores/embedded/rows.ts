import type { BucketState, Limit } from '../../domain/bucket.ts'
import type { Key, Keyspace } from '../../domain/key.ts'
import type { Policy, ServiceKey } from '../../domain/service-key.ts'
import { NO_LIMIT, type SlotState } from './shared-table.ts'

/** Rows of the database ↔ domain. SQLite is the parser: its tables are STRICT. */

export type Row = Readonly<Record<string, unknown>>

export interface KeyRow {
  readonly seq: number
  readonly keyspaceSeq: number
  readonly key: Key
  /** As the database has it, in terms of the limit that it names; absent if never used. */
  readonly stored: SlotState | undefined
}

/** Every column that `toKeyRow` reads; `WHERE` and the rest are the caller's. */
export const SELECT_KEY = `
  SELECT key.seq, key.keyspace, key.kid, key.created_at,
    key.expires_at, key.expires_at_ms, key.capacity, key.rate, key.interval_ms,
    keyspace.ksid, keyspace.capacity AS ks_capacity, keyspace.rate AS ks_rate, keyspace.interval_ms AS ks_interval_ms,
    bucket.seq AS bucket_seq, bucket.remaining, bucket.last_refilled, bucket.last_used,
    bucket.capacity AS b_capacity, bucket.rate AS b_rate, bucket.interval_ms AS b_interval_ms
  FROM key JOIN keyspace ON keyspace.seq = key.keyspace AND keyspace.deleted_at IS NULL
    LEFT JOIN bucket ON bucket.seq = key.seq`

export function toKeyRow(row: Row): KeyRow {
  const ownLimit = row['capacity'] === null ? undefined : toLimit(row, '')
  const seq = toNumber(row['seq'])
  const key: Key = {
    kid: String(row['kid']),
    ksid: String(row['ksid']),
    createdAtMs: toNumber(row['created_at']),
    expiresAt:
      row['expires_at'] === null
        ? undefined
        : { text: String(row['expires_at']), ms: toNumber(row['expires_at_ms']) },
    ownLimit,
    limit: ownLimit ?? toLimit(row, 'ks_'),
  }
  const keyspaceSeq = toNumber(row['keyspace'])
  return {
    seq,
    keyspaceSeq,
    key,
    stored: row['bucket_seq'] === null ? undefined : toSlotState(seq, row),
  }
}

function toSlotState(seq: number, row: Row): SlotState {
  return {
    seq,
    bucket: toBucket(row),
    lastUsedMs: row['last_used'] === null ? undefined : toNumber(row['last_used']),
    limit: toLimit(row, 'b_') ?? NO_LIMIT,
  }
}

export function toBucket(row: Row): BucketState | undefined {
  if (row['remaining'] === null) return undefined
  return { remaining: toNumber(row['remaining']), lastRefilledMs: toNumber(row['last_refilled']) }
}

/** The three columns of a limit under a prefix; capacity 0 is no limit. */
export function toLimit(row: Row, prefix: string): Limit | undefined {
  const capacity = toNumber(row[`${prefix}capacity`])
  if (capacity === 0) return undefined
  return { capacity, rate: toNumber(row[`${prefix}rate`]), intervalMs: toNumber(row[`${prefix}interval_ms`]) }
}

export function toKeyspace(row: Row): Keyspace {
  return {
    ksid: String(row['ksid']),
    name: String(row['name']),
    keysPrefix: String(row['keys_prefix']),
    limit: toLimit(row, ''),
    requireExpiration: row['require_expiration'] === 1,
    createdAtMs: toNumber(row['created_at']),
  }
}

export function toServiceKey(row: Row, policyRows: readonly Row[]): ServiceKey {
  const policies = new Map<string, Policy>()
  for (const policy of policyRows) {
    policies.set(String(policy['ksid']), { read: policy['can_read'] === 1, write: policy['can_write'] === 1 })
  }
  return {
    skid: String(row['skid']),
    description: String(row['description']),
    admin: row['admin'] === 1,
    policies,
    roles: String(row['roles']).split(',').filter(Boolean),
    createdAtMs: toNumber(row['created_at']),
  }
}

export function fromHex(tokenHash: string): Uint8Array {
  return Buffer.from(tokenHash, 'hex')
}

export function toNumber(value: unknown): number {
  return typeof value === 'number' ? value : Number(value)
}
