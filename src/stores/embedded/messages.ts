import type { RpcErrorCode } from '../../domain/errors.ts'
import type { SlotState, TableMemory, TableRecord } from './shared-table.ts'
import type { Writer } from './writer.ts'

/** What the control thread, the storage thread and the data-plane threads say to each other. */

export type JobName = keyof Writer
export type JobResult<N extends JobName> = ReturnType<Writer[N]>

export interface StorageOptions {
  readonly directory: string
  readonly table: TableMemory
  readonly flushIntervalMs: number
  /** How long expired keys are kept. */
  readonly keepExpiredMs: number
}

export type ToStorage =
  | { readonly kind: 'job'; readonly id: number; readonly name: JobName; readonly params: readonly unknown[] }
  /** The answer to `drained`: the states of ended slots that the database does not have. */
  | { readonly kind: 'flush'; readonly ended: readonly SlotState[] }
  | { readonly kind: 'stop'; readonly ended: readonly SlotState[] }

export type FromStorage =
  | { readonly kind: 'opened' }
  | { readonly kind: 'open-failed'; readonly message: string }
  | { readonly kind: 'done'; readonly id: number; readonly result: unknown }
  | { readonly kind: 'failed'; readonly id: number; readonly code: RpcErrorCode; readonly internal: string }
  | { readonly kind: 'drained' }
  | { readonly kind: 'flushed'; readonly states: number; readonly durationMs: number }
  | { readonly kind: 'flush-failed'; readonly internal: string }
  | { readonly kind: 'sweep-failed'; readonly internal: string }
  | { readonly kind: 'swept'; readonly seqs: readonly number[] }
  /** `isComplete`: every bucket state is on disk. */
  | { readonly kind: 'stopped'; readonly isComplete: boolean }

/** From a data-plane thread to the control thread. */
export type ToDirectory =
  | { readonly kind: 'find'; readonly id: number; readonly tokenHashes: readonly string[] }
  | { readonly kind: 'quiescent'; readonly round: number }
  | { readonly kind: 'forgot'; readonly id: number }

/** From the control thread to a data-plane thread. */
export type FromDirectory =
  | { readonly kind: 'found'; readonly id: number; readonly records: readonly (TableRecord | undefined)[] }
  | { readonly kind: 'find-failed'; readonly id: number; readonly internal: string }
  | { readonly kind: 'quiesce'; readonly round: number }
  /** All records; they are found again in the database. Answered with `forgot`. */
  | { readonly kind: 'forget'; readonly id: number }
