import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { hostname } from 'node:os'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { errorText } from '../../domain/errors.ts'
import { APPLICATION_ID, MIGRATIONS } from './schema.ts'

/**
 * Opens the files of the embedded store: `dripgate.db` (SQLite, WAL) and `lock`, all in the
 * directory `store.path`. Nothing here ever overwrites a file that it does not recognise.
 */

/** The store cannot be opened. The message is for the user: what, where, and what to do. */
export class StoreOpenError extends Error {
  /** Another process has the directory. */
  readonly isInUse: boolean

  constructor(message: string, options: { cause?: unknown; isInUse?: boolean } = {}) {
    super(message, { cause: options.cause })
    this.name = 'StoreOpenError'
    this.isInUse = options.isInUse ?? false
  }
}

const BUSY_TIMEOUT_MS = 5_000
/** A full integrity check of a larger file would hold up the start. */
const CHECKED_BYTES_MAX = 64 * 1024 * 1024
const SQLITE_HEADER = 'SQLite format 3\0'

export function databaseFile(directory: string): string {
  return path.join(directory, 'dripgate.db')
}

/** Holds the directory for this process. The kernel frees it when the process ends, however it ends. */
export interface DirectoryLock {
  release(): void
}

/**
 * Creates the directory where it is missing and takes its lock.
 * Throws `StoreOpenError` naming the holder when another process has it.
 */
export function lockDirectory(directory: string): DirectoryLock {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
  } catch (cause) {
    throw new StoreOpenError(`cannot create the store directory ${directory}: ${errorText(cause)}`, { cause })
  }
  const lockFile = path.join(directory, 'lock')
  const holderFile = path.join(directory, 'lock.holder')
  const database = openLockFile(lockFile)
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE')
  } catch (cause) {
    database.close()
    if (!/locked|busy/i.test(errorText(cause))) {
      throw new StoreOpenError(`cannot lock the store directory ${directory}: ${errorText(cause)}`, { cause })
    }
    throw new StoreOpenError(
      `the store directory ${path.resolve(directory)} is in use by ${describeHolder(holderFile)}. ` +
        'Stop that process, or give this one another store.path.',
      { cause, isInUse: true },
    )
  }
  try {
    writeFileSync(
      holderFile,
      `process ${process.pid} on ${hostname()}, started ${new Date().toISOString()}\n`,
    )
  } catch (cause) {
    database.close()
    throw notWritable(holderFile, cause)
  }
  return { release: () => database.close() }
}

function openLockFile(lockFile: string): DatabaseSync {
  try {
    return new DatabaseSync(lockFile, { timeout: 0 })
  } catch (cause) {
    throw notWritable(lockFile, cause)
  }
}

function notWritable(file: string, cause: unknown): StoreOpenError {
  const message = `cannot write to ${file}: ${errorText(cause)}. Give the directory to the user that runs the gateway.`
  return new StoreOpenError(message, { cause })
}

function describeHolder(holderFile: string): string {
  try {
    return readFileSync(holderFile, 'utf8').trim() || 'another process'
  } catch {
    return 'another process'
  }
}

/** Opens the one writing connection: creates the database on first start and migrates it. */
export function openWriter(directory: string): DatabaseSync {
  const file = databaseFile(directory)
  if (existsSync(file)) assertIsSqlite(file)
  return guard(file, () => {
    const database = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS })
    try {
      assertIsOurs(database, file)
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON')
      database.exec('PRAGMA cache_size = -32768; PRAGMA journal_size_limit = 67108864')
      migrate(database, file)
      return database
    } catch (error) {
      database.close()
      throw error
    }
  })
}

/** Opens a connection that only reads; the writer must have opened the file before. */
export function openReader(directory: string): DatabaseSync {
  const file = databaseFile(directory)
  return guard(file, () => {
    const database = new DatabaseSync(file, { readOnly: true, timeout: BUSY_TIMEOUT_MS })
    database.exec('PRAGMA cache_size = -32768')
    return database
  })
}

/** The version of the database file, without changing it; 0 where there is none. */
export function schemaVersion(database: DatabaseSync): number {
  return Number(database.prepare('PRAGMA user_version').get()?.['user_version'] ?? 0)
}

function assertIsSqlite(file: string): void {
  let header: Buffer
  try {
    header = readHeader(file)
  } catch (cause) {
    throw new StoreOpenError(`cannot read the database ${file}: ${errorText(cause)}`, { cause })
  }
  if (header.length === 0 || header.toString('latin1') === SQLITE_HEADER) return
  throw new StoreOpenError(
    `${file} is not a SQLite database, or it is damaged. It was left as it is. ` +
      'Restore it from a backup, or move it away to start with an empty store.',
  )
}

function readHeader(file: string): Buffer {
  const descriptor = openSync(file, 'r')
  try {
    const buffer = Buffer.alloc(SQLITE_HEADER.length)
    return buffer.subarray(0, readSync(descriptor, buffer, 0, buffer.length, 0))
  } finally {
    closeSync(descriptor)
  }
}

function assertIsOurs(database: DatabaseSync, file: string): void {
  const id = Number(database.prepare('PRAGMA application_id').get()?.['application_id'])
  const tables = Number(database.prepare('SELECT count(*) AS n FROM sqlite_schema').get()?.['n'])
  if (id !== APPLICATION_ID && (id !== 0 || tables > 0)) {
    throw new StoreOpenError(
      `${file} is a database of another program. It was left as it is. Give store.path another directory.`,
    )
  }
  const version = schemaVersion(database)
  if (version > MIGRATIONS.length) {
    throw new StoreOpenError(
      `${file} was written by a newer Dripgate (its format is ${version}, this version knows up to ` +
        `${MIGRATIONS.length}). It was left as it is. Start the newer version, or restore an older backup.`,
    )
  }
  if (statSync(file).size > CHECKED_BYTES_MAX) return
  const verdict = database.prepare('PRAGMA quick_check(1)').get()?.['quick_check']
  if (verdict !== 'ok') throw damaged(file, String(verdict))
}

function migrate(database: DatabaseSync, file: string): void {
  for (let version = schemaVersion(database); version < MIGRATIONS.length; version++) {
    database.exec('BEGIN IMMEDIATE')
    try {
      database.exec(MIGRATIONS[version] as string)
      database.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${version + 1}`)
      database.exec('COMMIT')
    } catch (cause) {
      if (database.isTransaction) database.exec('ROLLBACK')
      throw new StoreOpenError(`cannot bring ${file} to format ${version + 1}: ${errorText(cause)}`, {
        cause,
      })
    }
  }
}

/** Turns what SQLite throws while opening into an error that a user can act on. */
function guard<T>(file: string, open: () => T): T {
  try {
    return open()
  } catch (cause) {
    if (cause instanceof StoreOpenError) throw cause
    const text = errorText(cause)
    if (/malformed|not a database|corrupt/i.test(text)) throw damaged(file, text, cause)
    throw new StoreOpenError(`cannot open the database ${file}: ${text}`, { cause })
  }
}

function damaged(file: string, detail: string, cause?: unknown): StoreOpenError {
  return new StoreOpenError(
    `the database ${file} is damaged (${detail.split('\n', 1)[0]}). It was left as it is. ` +
      'Restore it from a backup, or move it away to start with an empty store.',
    { cause },
  )
}
