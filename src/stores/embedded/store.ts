import type { DatabaseSync } from 'node:sqlite'
import type { Worker } from 'node:worker_threads'
import { errorText } from '../../domain/errors.ts'
import type { CacheStore } from '../../ports/cache-store.ts'
import type { CallWindow } from '../../ports/call-window.ts'
import type { Clock, Logger } from '../../ports/runtime.ts'
import { type KeyStore, type RecordSource, StoreUnavailable } from '../../ports/stores.ts'
import { Confirmations } from '../confirmations.ts'
import { createCacheStore } from './cache-store.ts'
import { createCallWindow } from './call-window.ts'
import { type DirectoryLock, lockDirectory, openReader, StoreOpenError } from './database.ts'
import { createKeyReader, type KeyReader } from './key-reader.ts'
import { createKeyStore } from './key-store.ts'
import type { FromDirectory, FromStorage, StorageOptions, ToDirectory, ToStorage } from './messages.ts'
import {
  createTableMemory,
  SharedTable,
  type SlotState,
  type TableMemory,
  type TableRecord,
} from './shared-table.ts'
import { SlotDirectory } from './slot-directory.ts'
import { StorageClient } from './storage-client.ts'

/**
 * The embedded store as the control thread sees it: the directory lock, the reading connection, the
 * storage thread, and the directory of slots that it serves to the data-plane threads.
 */
export interface EmbeddedStore {
  readonly keyStore: KeyStore
  readonly cacheStore: CacheStore
  readonly callWindow: CallWindow
  /** For checks on the control thread. */
  readonly records: RecordSource<TableRecord>
  readonly table: SharedTable
  /** What a data-plane thread needs to open the same table. */
  readonly memory: TableMemory
  /** Answers a thread's questions until the returned function is called. */
  serve(thread: DirectoryClient): { receive(message: ToDirectory): void; leave(): void }
  /** Makes all threads find their records anew; `false`: one did not confirm it in time. */
  forgetRecords(): Promise<boolean>
  slotsUsed(): number
  /** Writes everything down and closes. Rejects when the last states could not be written. */
  close(): Promise<void>
}

export interface DirectoryClient {
  post(message: FromDirectory): void
}

export interface EmbeddedStoreOptions {
  readonly directory: string
  /** Keys that may have a slot at the same time; those used longest ago make room. */
  readonly slots: number
  readonly keepExpiredMs: number
  readonly clock: Clock
  readonly logger: Logger
  readonly spawnStorage: (options: StorageOptions) => Worker
  readonly onFlush?: (flush: { ok: boolean; states: number; durationMs: number }) => void
  /** The storage thread ended by itself; nothing can be written any more. */
  readonly onFatal: (error: Error) => void
}

const FLUSH_INTERVAL_MS = 250
const CLOSE_TIMEOUT_MS = 30_000
const FORGET_TIMEOUT_MS = 5_000

/** Throws `StoreOpenError`, whose message is for the user. */
export async function openEmbeddedStore(options: EmbeddedStoreOptions): Promise<EmbeddedStore> {
  const lock = lockDirectory(options.directory)
  try {
    return await openLocked(options, lock)
  } catch (error) {
    lock.release()
    throw error
  }
}

async function openLocked(options: EmbeddedStoreOptions, lock: DirectoryLock): Promise<EmbeddedStore> {
  const { clock, logger } = options
  const memory = createTableMemory(options.slots)
  const table = new SharedTable(memory)
  const directory = new SlotDirectory(table, clock)
  const worker = options.spawnStorage({
    directory: options.directory,
    table: memory,
    flushIntervalMs: FLUSH_INTERVAL_MS,
    keepExpiredMs: options.keepExpiredMs,
  })
  const post = (message: ToStorage) => worker.postMessage(message)
  const storage = new StorageClient(post)
  const opened = Promise.withResolvers<void>()
  const stopped = Promise.withResolvers<void>()
  let isStopping = false
  /** The states of ended slots that the running flush writes. */
  let flushing: SlotState[] = []
  let isFailing = false

  worker.on('message', (message: FromStorage) => {
    switch (message.kind) {
      case 'opened':
        return opened.resolve()
      case 'open-failed':
        return opened.reject(new StoreOpenError(message.message))
      case 'done':
      case 'failed':
        return storage.settle(message)
      case 'drained':
        flushing = directory.unwritten()
        return post({ kind: 'flush', ended: flushing })
      case 'flushed':
        directory.written(flushing)
        if (isFailing) logger.info('bucket states can be written down again')
        isFailing = false
        return options.onFlush?.({ ok: true, states: message.states, durationMs: message.durationMs })
      case 'flush-failed':
        // Once, not four times a second; the metric tells how long it lasts.
        if (!isFailing) {
          logger.error('bucket states cannot be written down; checks go on', { internal: message.internal })
        }
        isFailing = true
        return options.onFlush?.({ ok: false, states: 0, durationMs: 0 })
      case 'sweep-failed':
        return logger.warn('deleted and expired keys could not be swept; tried again', {
          internal: message.internal,
        })
      case 'swept':
        for (const seq of message.seqs) directory.drop(seq)
        return
      case 'stopped':
        if (message.isComplete) return stopped.resolve()
        return stopped.reject(new Error('the last bucket states could not be written down; see the log'))
    }
  })
  worker.on('error', (error) => {
    opened.reject(error)
    if (!isStopping)
      options.onFatal(new Error(`the storage thread failed: ${errorText(error)}`, { cause: error }))
  })
  worker.on('exit', () => {
    storage.close()
    opened.reject(new Error('the storage thread ended while it was opening the database'))
    if (isStopping)
      stopped.reject(new Error('the storage thread ended before it had written everything down'))
  })
  stopped.promise.catch(() => {})
  await opened.promise

  const { connection, reader } = await openReading(options.directory, worker)
  const members = new Confirmations<DirectoryClient>()
  return {
    keyStore: createKeyStore({ reader, storage, directory, clock }),
    cacheStore: createCacheStore({ connection, storage, clock }),
    callWindow: createCallWindow(clock),
    records: { find: (tokenHash) => findRecord(reader, directory, tokenHash), forget: () => {} },
    table,
    memory,
    forgetRecords: () => members.ask((member, id) => member.post({ kind: 'forget', id }), FORGET_TIMEOUT_MS),
    slotsUsed: () => directory.used,

    serve(thread) {
      const threadMember = { ask: (round: number) => thread.post({ kind: 'quiesce', round }) }
      directory.join(threadMember)
      const { confirm, leave } = members.join(thread)
      return {
        receive(message) {
          if (message.kind === 'quiescent') return directory.acknowledge(threadMember, message.round)
          if (message.kind === 'forgot') return confirm(message.id)
          return thread.post(answer(reader, directory, message))
        },
        leave() {
          directory.leave(threadMember)
          leave()
        },
      }
    },

    async close() {
      isStopping = true
      // The last connection to close folds the log into the database, and this one cannot.
      connection.close()
      post({ kind: 'stop', ended: directory.unwritten() })
      const timeout = setTimeout(
        () => stopped.reject(new Error('the storage thread does not stop')),
        CLOSE_TIMEOUT_MS,
      )
      try {
        await stopped.promise
      } finally {
        clearTimeout(timeout)
        await worker.terminate()
        lock.release()
      }
    },
  }
}

async function openReading(
  directory: string,
  worker: Worker,
): Promise<{ connection: DatabaseSync; reader: KeyReader }> {
  try {
    const connection = openReader(directory)
    return { connection, reader: createKeyReader(connection) }
  } catch (error) {
    await worker.terminate()
    throw error
  }
}

function findRecord(reader: KeyReader, directory: SlotDirectory, tokenHash: string): TableRecord | undefined {
  try {
    const row = reader.findKeyByToken(tokenHash)
    return row === undefined ? undefined : directory.admit(row)
  } catch (cause) {
    if (cause instanceof StoreUnavailable) throw cause
    throw new StoreUnavailable(`a key cannot be read: ${errorText(cause)}`, { cause })
  }
}

function answer(
  reader: KeyReader,
  directory: SlotDirectory,
  question: Extract<ToDirectory, { kind: 'find' }>,
): FromDirectory {
  const { id, tokenHashes } = question
  try {
    return { kind: 'found', id, records: tokenHashes.map((hash) => findRecord(reader, directory, hash)) }
  } catch (error) {
    return { kind: 'find-failed', id, internal: errorText(error) }
  }
}
