import type { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import type { MessagePort } from 'node:worker_threads'
import { errorText, RpcError, type RpcErrorCode } from '../../domain/errors.ts'
import { openWriter } from './database.ts'
import type { FromStorage, StorageOptions, ToStorage } from './messages.ts'
import { SharedTable, type SlotState } from './shared-table.ts'
import { createWriter, primaryCode, type Writer } from './writer.ts'

/**
 * The storage thread: the only writing connection. It commits the jobs of one turn together, writes
 * changed buckets down every 250 ms, and sweeps what was deleted or has expired, a thousand keys a
 * transaction. A job is answered after its commit has reached the disk.
 */

type DrainedState = SlotState & { readonly slot: number }
type Job = Extract<ToStorage, { kind: 'job' }>
type Outcome = Extract<FromStorage, { kind: 'done' | 'failed' }>

const JOBS_PER_COMMIT = 1_000
/**
 * A flush is written in pieces, with a breath between them: where the data plane has the same core, it would
 * stand still for as long as a thousand states take.
 */
const PIECE_MIN = 128
const PIECE_MAX = 10_000
const PIECES_WANTED = 32
const BREATH_MS = 2
const SWEEP_INTERVAL_MS = 1_000
const SQLITE_BUSY = 5
const SQLITE_IOERR = 10
const SQLITE_FULL = 13

export function runStorageThread(port: MessagePort, options: StorageOptions): void {
  const post = (message: FromStorage) => port.postMessage(message)
  let database: DatabaseSync
  try {
    database = openWriter(options.directory)
  } catch (error) {
    post({ kind: 'open-failed', message: errorText(error) })
    port.close()
    return
  }
  const writer = createWriter(database)
  const table = new SharedTable(options.table)
  const queue: Job[] = []
  /** Changed states that a flush has read and not yet written. */
  let drained: DrainedState[] | undefined
  let flushBeganAt = 0
  let isCommitPlanned = false

  port.on('message', (message: ToStorage) => {
    switch (message.kind) {
      case 'job':
        queue.push(message)
        planCommit()
        return
      case 'flush':
        void finishFlush(message.ended)
        return
      case 'stop':
        stop(message.ended)
    }
  })
  const flushTimer = setInterval(beginFlush, options.flushIntervalMs)
  const sweepTimer = setInterval(sweep, SWEEP_INTERVAL_MS)
  post({ kind: 'opened' })

  function planCommit(): void {
    if (isCommitPlanned) return
    isCommitPlanned = true
    setImmediate(() => {
      isCommitPlanned = false
      for (const outcome of commitJobs(database, writer, queue.splice(0, JOBS_PER_COMMIT))) post(outcome)
      if (queue.length > 0) planCommit()
    })
  }

  /**
   * Reads what changed, then asks the control thread for the final states of slots that have ended
   * since the flush before: a slot that ended before it was read here is among them. So a flush
   * covers all that was spent before it began.
   */
  function beginFlush(): void {
    if (drained !== undefined) return
    flushBeganAt = performance.now()
    drained = [...table.drainDirty()]
    post({ kind: 'drained' })
  }

  async function finishFlush(ended: readonly SlotState[]): Promise<void> {
    const states: SlotState[] = [...(drained ?? []), ...ended]
    const share = Math.ceil(states.length / PIECES_WANTED)
    const piece = Math.min(Math.max(share, PIECE_MIN), PIECE_MAX)
    try {
      for (let start = 0; start < states.length; start += piece) {
        if (start > 0) await sleep(BREATH_MS)
        // A stop has written all of them.
        if (drained === undefined) return
        const isLast = start + piece >= states.length
        if (isLast) writeStates(states.slice(start))
        else writeUnsynced(states.slice(start, start + piece))
      }
      post({ kind: 'flushed', states: states.length, durationMs: performance.now() - flushBeganAt })
    } catch (error) {
      for (const { slot } of drained ?? []) table.markDirty(slot)
      post({ kind: 'flush-failed', internal: errorText(error) })
    }
    drained = undefined
  }

  function writeStates(states: readonly SlotState[]): void {
    if (states.length > 0) inTransaction(database, () => writer.putBuckets(states))
  }

  /** The last piece's sync covers those before it. */
  function writeUnsynced(states: readonly SlotState[]): void {
    database.exec('PRAGMA synchronous = NORMAL')
    try {
      writeStates(states)
    } finally {
      database.exec('PRAGMA synchronous = FULL')
    }
  }

  function sweep(): void {
    try {
      const { seqs, entries } = inTransaction(database, () => ({
        seqs: writer.sweep(Date.now() - options.keepExpiredMs),
        entries: writer.sweepCache(Date.now()),
      }))
      if (seqs.length > 0) post({ kind: 'swept', seqs })
      if (seqs.length > 0 || entries > 0) setImmediate(sweep)
    } catch (error) {
      post({ kind: 'sweep-failed', internal: errorText(error) })
    }
  }

  function stop(ended: readonly SlotState[]): void {
    clearInterval(flushTimer)
    clearInterval(sweepTimer)
    while (queue.length > 0) {
      for (const outcome of commitJobs(database, writer, queue.splice(0, JOBS_PER_COMMIT))) post(outcome)
    }
    let isComplete = true
    const undone = drained ?? []
    drained = undefined
    try {
      writeStates([...undone, ...table.drainDirty(), ...ended])
    } catch (error) {
      isComplete = false
      post({ kind: 'flush-failed', internal: errorText(error) })
    }
    // Closing the last connection folds the write-ahead log into the database.
    database.close()
    post({ kind: 'stopped', isComplete })
    port.close()
  }
}

/**
 * Commits jobs together. Each has a savepoint, so one that refuses takes nothing with it. When the
 * transaction itself fails (a full disk, say) the jobs are tried one by one: a delete may still fit.
 * Not when another process has the database: each would wait as long again.
 */
function commitJobs(database: DatabaseSync, writer: Writer, jobs: readonly Job[]): Outcome[] {
  try {
    return inTransaction(database, () => jobs.map((job) => runJob(database, writer, job)))
  } catch (error) {
    const isBusy = primaryCode(error) === SQLITE_BUSY
    if (jobs.length > 1 && !isBusy) return jobs.flatMap((job) => commitJobs(database, writer, [job]))
    return jobs.map((job) => ({
      kind: 'failed',
      id: job.id,
      code: toCode(error),
      internal: errorText(error),
    }))
  }
}

function runJob(database: DatabaseSync, writer: Writer, job: Job): Outcome {
  database.exec('SAVEPOINT job')
  try {
    const run = writer[job.name] as (...params: readonly unknown[]) => unknown
    const result = run(...job.params)
    database.exec('RELEASE job')
    return { kind: 'done', id: job.id, result }
  } catch (error) {
    if (!(error instanceof RpcError)) throw error
    database.exec('ROLLBACK TO job; RELEASE job')
    return { kind: 'failed', id: job.id, code: error.code, internal: error.message }
  }
}

function inTransaction<T>(database: DatabaseSync, run: () => T): T {
  database.exec('BEGIN IMMEDIATE')
  try {
    const result = run()
    database.exec('COMMIT')
    return result
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK')
    throw error
  }
}

function toCode(error: unknown): RpcErrorCode {
  const code = primaryCode(error)
  if (code === SQLITE_FULL) return 'store_full'
  return code === SQLITE_IOERR && /full|space|too large/i.test(errorText(error))
    ? 'store_full'
    : 'store_unavailable'
}
