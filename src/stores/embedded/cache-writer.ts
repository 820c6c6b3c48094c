import type { StatementSync } from 'node:sqlite'
import type { CacheEntry } from '../../ports/cache-store.ts'

const SWEEP_ENTRIES_MAX = 1_000

/** The jobs of the storage thread on the cache database; one call is one batch. */
export function createCacheWriter(sql: (text: string) => StatementSync) {
  return {
    setCacheEntries(entries: readonly CacheEntry[], nowMs: number): void {
      const put = sql(
        `INSERT INTO cache_entry (key, value, expires_at) VALUES (?, ?, ?)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at`,
      )
      for (const { key, value, ttlMs } of entries) {
        put.run(key, Buffer.from(value), ttlMs === undefined ? null : nowMs + ttlMs)
      }
    },

    /** Gives how many of them were there and had not expired. */
    removeCacheEntries(keys: readonly string[], nowMs: number): number {
      const remove = sql('DELETE FROM cache_entry WHERE key = ? RETURNING expires_at')
      let removed = 0
      for (const key of keys) {
        const row = remove.get(key)
        if (row !== undefined && (row['expires_at'] === null || Number(row['expires_at']) > nowMs)) removed++
      }
      return removed
    },

    /** Removes at most 1,000 expired entries; gives how many. */
    sweepCache(nowMs: number): number {
      const sweep = sql(
        `DELETE FROM cache_entry WHERE seq IN
           (SELECT seq FROM cache_entry WHERE expires_at <= ? LIMIT ${SWEEP_ENTRIES_MAX})`,
      )
      return Number(sweep.run(nowMs).changes)
    },
  }
}
