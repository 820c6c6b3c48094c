import type { DatabaseSync } from 'node:sqlite'
import type { CacheOutcome, CacheStore } from '../../ports/cache-store.ts'
import type { Clock } from '../../ports/runtime.ts'
import { runBatches } from '../batches.ts'
import type { StorageClient } from './storage-client.ts'

/** The cache database in the file of the embedded store: read here, written by the storage thread. */
export function createCacheStore(deps: {
  readonly connection: DatabaseSync
  readonly storage: StorageClient
  readonly clock: Clock
}): CacheStore {
  const { connection, storage, clock } = deps
  const among = 'key IN (SELECT value FROM json_each(?)) AND (expires_at IS NULL OR expires_at > ?)'
  const measure = connection.prepare(
    `SELECT coalesce(sum(length(value)), 0) AS bytes FROM cache_entry WHERE ${among}`,
  )
  const read = connection.prepare(`SELECT key, value FROM cache_entry WHERE ${among}`)

  return {
    async getMany(keys, bytesMax) {
      const values = new Map<string, string>()
      let bytes = 0
      const outcome = await runBatches(keys, (batch) =>
        orFailed(batch, async () => {
          const params = [JSON.stringify(batch), clock.wallMs()] as const
          bytes += Number(measure.get(...params)?.['bytes'])
          if (bytes > bytesMax) return 0
          const rows = read.all(...params)
          for (const row of rows) values.set(String(row['key']), toText(row['value']))
          return rows.length
        }),
      )
      return { ...outcome, values, isTooLarge: bytes > bytesMax }
    },

    setMany(entries) {
      const byKey = new Map(entries.map((entry) => [entry.key, entry]))
      return runBatches([...byKey.keys()], (batch) =>
        orFailed(batch, async () => {
          await storage.run('setCacheEntries', [batch.flatMap((key) => byKey.get(key) ?? []), clock.wallMs()])
          return batch.length
        }),
      )
    },

    removeMany: (keys) =>
      runBatches(keys, (batch) =>
        orFailed(batch, () => storage.run('removeCacheEntries', [batch, clock.wallMs()])),
      ),
  }
}

/** A batch is one transaction: all of it or nothing. */
async function orFailed(keys: readonly string[], run: () => Promise<number>): Promise<CacheOutcome> {
  try {
    return { done: await run(), failed: [] }
  } catch (cause) {
    return { done: 0, failed: keys, cause }
  }
}

function toText(value: unknown): string {
  return value instanceof Uint8Array
    ? Buffer.from(value.buffer, value.byteOffset, value.length).toString()
    : ''
}
