import { DatabaseSync } from 'node:sqlite'
import type { KeyStore } from '../../ports/stores.ts'
import { databaseFile, lockDirectory, openWriter, StoreOpenError, schemaVersion } from './database.ts'
import { MIGRATIONS } from './schema.ts'
import { createWriter } from './writer.ts'

/**
 * For the command line: creates a service key straight in the database. While a gateway runs on
 * the same directory SQLite's own lock orders the two writers, and the gateway sees the new key at
 * once, as service keys are not cached. Throws `StoreOpenError`, or `RpcError` as `KeyStore` says.
 */
export function openOfflineStore(directory: string): Pick<KeyStore, 'createServiceKey'> & { close(): void } {
  const lock = tryLock(directory)
  if (lock === undefined) assertSameFormat(directory)
  const database = openWriter(directory)
  const writer = createWriter(database)
  return {
    async createServiceKey(serviceKey, tokenHash) {
      database.exec('BEGIN IMMEDIATE')
      try {
        writer.createServiceKey(serviceKey, tokenHash)
        database.exec('COMMIT')
      } catch (error) {
        if (database.isTransaction) database.exec('ROLLBACK')
        throw error
      }
    },
    close() {
      database.close()
      lock?.release()
    },
  }
}

function tryLock(directory: string): ReturnType<typeof lockDirectory> | undefined {
  try {
    return lockDirectory(directory)
  } catch (error) {
    if (error instanceof StoreOpenError && error.isInUse) return undefined
    throw error
  }
}

/** A running gateway of another version must not have its database changed under it. */
function assertSameFormat(directory: string): void {
  const database = new DatabaseSync(databaseFile(directory), { readOnly: true })
  const version = schemaVersion(database)
  database.close()
  if (version === MIGRATIONS.length) return
  throw new StoreOpenError(
    `the gateway that runs on ${directory} is of another version (format ${version} instead of ${MIGRATIONS.length}). ` +
      'Use the dripgate command of that version, or stop the gateway first.',
  )
}
