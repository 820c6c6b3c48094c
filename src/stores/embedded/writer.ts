import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { convert, type Limit } from '../../domain/bucket.ts'
import { RpcError, type RpcErrorCode } from '../../domain/errors.ts'
import type { Keyspace } from '../../domain/key.ts'
import type { Policy, ServiceKey } from '../../domain/service-key.ts'
import type { KeyChange, KeyspaceChange, NewKey, ServiceKeyChange } from '../../ports/stores.ts'
import { createCacheWriter } from './cache-writer.ts'
import { fromHex, type Row, toBucket, toLimit, toNumber } from './rows.ts'
import { NO_LIMIT, type SlotState } from './shared-table.ts'

/**
 * Everything that changes the database: one function per job, run inside a transaction of the
 * caller (storage-thread.ts). A job throws `RpcError` to refuse; its changes are then undone.
 */
export type Writer = ReturnType<typeof createWriter>

const SWEEP_KEYS_MAX = 1_000
/** Rows held in memory at once while the buckets of a keyspace are converted. */
const CONVERT_CHUNK_ROWS = 5_000

export function createWriter(database: DatabaseSync) {
  const prepared = new Map<string, StatementSync>()
  function sql(text: string): StatementSync {
    let statement = prepared.get(text)
    if (statement === undefined) {
      statement = database.prepare(text)
      prepared.set(text, statement)
    }
    return statement
  }

  function findKeyspace(ksid: string): Row | undefined {
    return sql('SELECT * FROM keyspace WHERE ksid = ? AND deleted_at IS NULL').get(ksid)
  }

  function findServiceKey(skid: string): Row | undefined {
    return sql('SELECT * FROM service_key WHERE skid = ? AND deleted_at IS NULL').get(skid)
  }

  function findKey(ksid: string, kid: string): Row | undefined {
    return sql(
      `SELECT key.seq, key.keyspace, key.created_at, key.capacity, key.rate, key.interval_ms,
         keyspace.capacity AS ks_capacity, keyspace.rate AS ks_rate, keyspace.interval_ms AS ks_interval_ms
       FROM key JOIN keyspace ON keyspace.seq = key.keyspace
       WHERE key.kid = ? AND keyspace.ksid = ? AND keyspace.deleted_at IS NULL`,
    ).get(kid, ksid)
  }

  /** Rewrites stored buckets in terms of a new limit; those of threads are converted there. */
  function convertBuckets(keys: Iterable<Row>, to: Limit | undefined, nowMs: number): void {
    const update = sql(
      'UPDATE bucket SET remaining = ?, last_refilled = ?, capacity = ?, rate = ?, interval_ms = ? WHERE seq = ?',
    )
    const { capacity, rate, intervalMs } = to ?? NO_LIMIT
    for (const row of keys) {
      const change = { from: toLimit(row, 'b_'), to }
      const bucket = convert(toBucket(row), change, toNumber(row['created_at']), nowMs)
      update.run(
        bucket?.remaining ?? null,
        bucket?.lastRefilledMs ?? null,
        capacity,
        rate,
        intervalMs,
        toNumber(row['seq']),
      )
    }
  }

  const SELECT_BUCKETS = `
    SELECT key.seq, key.created_at, bucket.remaining, bucket.last_refilled,
      bucket.capacity AS b_capacity, bucket.rate AS b_rate, bucket.interval_ms AS b_interval_ms
    FROM key JOIN bucket ON bucket.seq = key.seq`

  return {
    ...createCacheWriter(sql),

    createKeyspace(keyspace: Keyspace): void {
      const { capacity, rate, intervalMs } = keyspace.limit ?? NO_LIMIT
      orConflict('keyspace_exists', () =>
        sql(
          `INSERT INTO keyspace (ksid, name, keys_prefix, capacity, rate, interval_ms, require_expiration, created_at)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
        ).run(
          keyspace.ksid,
          keyspace.name,
          keyspace.keysPrefix,
          capacity,
          rate,
          intervalMs,
          keyspace.requireExpiration ? 1 : 0,
          keyspace.createdAtMs,
        ),
      )
    },

    /** Gives the number of the keyspace whose limit changed, if it did. */
    updateKeyspace(
      ksid: string,
      change: KeyspaceChange,
      nowMs: number,
    ): { found: boolean; limitChanged?: number } {
      const row = findKeyspace(ksid)
      if (row === undefined) return { found: false }
      const seq = toNumber(row['seq'])
      const limit = change.limit === undefined ? toLimit(row, '') : (change.limit ?? undefined)
      const { capacity, rate, intervalMs } = limit ?? NO_LIMIT
      orConflict('keyspace_exists', () =>
        sql(
          `UPDATE keyspace SET name = ?, keys_prefix = ?, capacity = ?, rate = ?, interval_ms = ?, require_expiration = ?
           WHERE seq = ?`,
        ).run(
          change.name ?? String(row['name']),
          change.keysPrefix ?? String(row['keys_prefix']),
          capacity,
          rate,
          intervalMs,
          change.requireExpiration === undefined
            ? toNumber(row['require_expiration'])
            : change.requireExpiration
              ? 1
              : 0,
          seq,
        ),
      )
      if (change.limit === undefined) return { found: true }
      let after = 0
      for (;;) {
        const rows = sql(
          `${SELECT_BUCKETS} WHERE key.keyspace = ? AND key.seq > ? AND key.capacity IS NULL
           ORDER BY key.seq LIMIT ${CONVERT_CHUNK_ROWS}`,
        ).all(seq, after)
        convertBuckets(rows, limit, nowMs)
        if (rows.length < CONVERT_CHUNK_ROWS) break
        after = toNumber(rows.at(-1)?.['seq'])
      }
      return { found: true, limitChanged: seq }
    },

    /** Makes the keyspace and its keys invisible in one step; `sweep` removes the rows. */
    deleteKeyspace(ksid: string, wallMs: number): number | undefined {
      const row = findKeyspace(ksid)
      if (row === undefined) return undefined
      const seq = toNumber(row['seq'])
      sql('UPDATE keyspace SET deleted_at = ? WHERE seq = ?').run(wallMs, seq)
      sql('DELETE FROM policy WHERE ksid = ?').run(ksid)
      return seq
    },

    createKey(key: NewKey): void {
      const keyspace = findKeyspace(key.ksid)
      if (keyspace === undefined) throw new RpcError('keyspace_not_found')
      sql(
        `INSERT INTO key (keyspace, kid, token_hash, created_at, expires_at_ms, expires_at, capacity, rate, interval_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      ).run(
        toNumber(keyspace['seq']),
        key.kid,
        fromHex(key.tokenHash),
        key.createdAtMs,
        key.expiresAt?.ms ?? null,
        key.expiresAt?.text ?? null,
        key.ownLimit?.capacity ?? null,
        key.ownLimit?.rate ?? null,
        key.ownLimit?.intervalMs ?? null,
      )
      sql('UPDATE keyspace SET key_count = key_count + 1 WHERE seq = ?').run(toNumber(keyspace['seq']))
    },

    updateKey(ksid: string, kid: string, change: KeyChange, nowMs: number): boolean {
      const row = findKey(ksid, kid)
      if (row === undefined) return false
      const seq = toNumber(row['seq'])
      if (change.expiresAt !== undefined) {
        sql('UPDATE key SET expires_at_ms = ?, expires_at = ? WHERE seq = ?').run(
          change.expiresAt?.ms ?? null,
          change.expiresAt?.text ?? null,
          seq,
        )
      }
      if (change.ownLimit !== undefined) {
        const own = change.ownLimit
        sql('UPDATE key SET capacity = ?, rate = ?, interval_ms = ? WHERE seq = ?').run(
          own?.capacity ?? null,
          own?.rate ?? null,
          own?.intervalMs ?? null,
          seq,
        )
        convertBuckets(sql(`${SELECT_BUCKETS} WHERE key.seq = ?`).all(seq), own ?? toLimit(row, 'ks_'), nowMs)
      }
      return true
    },

    setKeyToken(ksid: string, kid: string, tokenHash: string): boolean {
      const row = findKey(ksid, kid)
      if (row === undefined) return false
      sql('UPDATE key SET token_hash = ? WHERE seq = ?').run(fromHex(tokenHash), toNumber(row['seq']))
      return true
    },

    deleteKey(ksid: string, kid: string): number | undefined {
      const row = findKey(ksid, kid)
      if (row === undefined) return undefined
      const seq = toNumber(row['seq'])
      sql('DELETE FROM bucket WHERE seq = ?').run(seq)
      sql('DELETE FROM key WHERE seq = ?').run(seq)
      sql('UPDATE keyspace SET key_count = key_count - 1 WHERE seq = ?').run(toNumber(row['keyspace']))
      return seq
    },

    createServiceKey(serviceKey: ServiceKey, tokenHash: string): void {
      const { lastInsertRowid } = orConflict('service_key_exists', () =>
        sql(
          'INSERT INTO service_key (skid, token_hash, description, admin, roles, created_at) VALUES (?, ?, ?, ?, ?, ?)',
        ).run(
          serviceKey.skid,
          fromHex(tokenHash),
          serviceKey.description,
          serviceKey.admin ? 1 : 0,
          serviceKey.roles.join(','),
          serviceKey.createdAtMs,
        ),
      )
      replacePolicies(Number(lastInsertRowid), serviceKey.policies)
    },

    updateServiceKey(skid: string, change: ServiceKeyChange): boolean {
      const row = findServiceKey(skid)
      if (row === undefined) return false
      const seq = toNumber(row['seq'])
      sql('UPDATE service_key SET description = ?, admin = ?, roles = ? WHERE seq = ?').run(
        change.description ?? String(row['description']),
        change.admin === undefined ? toNumber(row['admin']) : change.admin ? 1 : 0,
        change.roles?.join(',') ?? String(row['roles']),
        seq,
      )
      if (change.policies !== undefined) replacePolicies(seq, change.policies)
      return true
    },

    setServiceKeyToken(skid: string, tokenHash: string): boolean {
      const row = findServiceKey(skid)
      if (row === undefined) return false
      orConflict('service_key_exists', () =>
        sql('UPDATE service_key SET token_hash = ? WHERE seq = ?').run(
          fromHex(tokenHash),
          toNumber(row['seq']),
        ),
      )
      return true
    },

    deleteServiceKey(skid: string, wallMs: number): boolean {
      const row = findServiceKey(skid)
      if (row === undefined) return false
      sql('DELETE FROM policy WHERE service_key = ?').run(toNumber(row['seq']))
      sql('UPDATE service_key SET deleted_at = ? WHERE seq = ?').run(wallMs, toNumber(row['seq']))
      return true
    },

    /** Writes bucket states down; those of keys that are gone are left out. */
    putBuckets(states: Iterable<SlotState>): void {
      const put = sql(
        `INSERT INTO bucket (seq, remaining, last_refilled, last_used, capacity, rate, interval_ms)
         SELECT ?, ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM key WHERE seq = ?1)
         ON CONFLICT (seq) DO UPDATE SET remaining = excluded.remaining, last_refilled = excluded.last_refilled,
           last_used = excluded.last_used, capacity = excluded.capacity, rate = excluded.rate,
           interval_ms = excluded.interval_ms`,
      )
      for (const { seq, bucket, lastUsedMs, limit } of states) {
        put.run(
          seq,
          bucket?.remaining ?? null,
          bucket?.lastRefilledMs ?? null,
          lastUsedMs ?? null,
          limit.capacity,
          limit.rate,
          limit.intervalMs,
        )
      }
    },

    /**
     * Removes at most 1,000 keys: those of deleted keyspaces, then those that expired before
     * `expiredBeforeMs`. Gives their numbers; an empty list means that nothing is left to do.
     */
    sweep(expiredBeforeMs: number): number[] {
      const rows = sql(
        `SELECT key.seq, key.keyspace FROM keyspace JOIN key ON key.keyspace = keyspace.seq
         WHERE keyspace.deleted_at IS NOT NULL LIMIT ${SWEEP_KEYS_MAX}`,
      ).all()
      if (rows.length === 0) {
        sql('DELETE FROM keyspace WHERE deleted_at IS NOT NULL').run()
        rows.push(
          ...sql(`SELECT seq, keyspace FROM key WHERE expires_at_ms < ? LIMIT ${SWEEP_KEYS_MAX}`).all(
            expiredBeforeMs,
          ),
        )
      }
      for (const row of rows) {
        sql('DELETE FROM bucket WHERE seq = ?').run(toNumber(row['seq']))
        sql('DELETE FROM key WHERE seq = ?').run(toNumber(row['seq']))
        sql('UPDATE keyspace SET key_count = key_count - 1 WHERE seq = ?').run(toNumber(row['keyspace']))
      }
      return rows.map((row) => toNumber(row['seq']))
    },
  }

  function replacePolicies(serviceKeySeq: number, policies: ReadonlyMap<string, Policy>): void {
    sql('DELETE FROM policy WHERE service_key = ?').run(serviceKeySeq)
    for (const [ksid, policy] of policies) {
      if (ksid !== '*' && findKeyspace(ksid) === undefined) throw new RpcError('keyspace_not_found')
      sql('INSERT INTO policy (service_key, ksid, can_read, can_write) VALUES (?, ?, ?, ?)').run(
        serviceKeySeq,
        ksid,
        policy.read ? 1 : 0,
        policy.write ? 1 : 0,
      )
    }
  }
}

const SQLITE_CONSTRAINT = 19

/** Runs a statement whose unique indexes stand for a rule of the API. */
function orConflict<T>(code: RpcErrorCode, run: () => T): T {
  try {
    return run()
  } catch (error) {
    if (primaryCode(error) === SQLITE_CONSTRAINT) throw new RpcError(code, { cause: error })
    throw error
  }
}

/** SQLite's primary result code of an error, without the extension bits; 0 for other errors. */
export function primaryCode(error: unknown): number {
  if (!(error instanceof Error) || !('errcode' in error)) return 0
  return Number(error.errcode) & 0xff
}
