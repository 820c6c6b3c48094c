import type { PurgeCounters } from '../../ports/purge-counters.ts'
import type { RawHeaders } from '../raw-headers.ts'

/** A stored answer: plain data, that crosses threads. Instants are those of the clock of buckets. */
export interface Entry {
  readonly kind: 'answer'
  readonly status: number
  /** As they came from the upstream, without what is not stored; with `Content-Length`. */
  readonly rawHeaders: RawHeaders
  readonly body: Uint8Array
  /** When it was made at its origin, as far as is known: from there its age is counted. */
  readonly bornMs: number
  readonly lifetimeMs: number
  /** It must not be given stale because a client would take it so. */
  readonly mustRevalidate: boolean
  readonly staleWhileRevalidateMs: number
  readonly staleIfErrorMs: number
  /** `''` without any. */
  readonly etag: string
  readonly lastModified: string
  /** Counters that purge it, and what their sequence was before it was fetched. */
  readonly marks: readonly number[]
  readonly since: bigint
  /** The last purge of all nodes that was known before it was fetched. */
  readonly farSince: number
}

/** Says by which request fields the answers of a URL differ; they lie under keys of their own. */
export interface VaryNote {
  readonly kind: 'vary'
  /** In lower case. */
  readonly names: readonly string[]
}

/** Says that answers of this URL were not fit to be stored, so that nobody waits for one. */
export interface PassNote {
  readonly kind: 'pass'
  readonly untilMs: number
}

export type Item = Entry | VaryNote | PassNote

const ITEM_BYTES = 512

/** About what it takes in memory. */
export function sizeOf(key: string, item: Item): number {
  let bytes = ITEM_BYTES + key.length
  if (item.kind === 'vary') for (const name of item.names) bytes += name.length + 16
  if (item.kind !== 'answer') return bytes
  for (const part of item.rawHeaders) bytes += part.length + 16
  return bytes + item.body.length + 8 * item.marks.length
}

export function ageMsOf(entry: Entry, nowMs: number): number {
  return Math.max(0, nowMs - entry.bornMs)
}

/** Whether it may be given at all: not purged since before its fetch, and within the node's lease. */
export function isServable(entry: Entry, counters: PurgeCounters, nowMs: number): boolean {
  return nowMs < counters.leaseEndMs && counters.isUntouched(entry.marks, entry.since)
}

export function isFresh(entry: Entry, nowMs: number): boolean {
  return ageMsOf(entry, nowMs) < entry.lifetimeMs
}

export function mayServeWhileRevalidating(entry: Entry, nowMs: number): boolean {
  return ageMsOf(entry, nowMs) < entry.lifetimeMs + entry.staleWhileRevalidateMs
}

export function mayServeOnError(entry: Entry, nowMs: number): boolean {
  return ageMsOf(entry, nowMs) < entry.lifetimeMs + entry.staleIfErrorMs
}

export function hasValidator(entry: Entry): boolean {
  return entry.etag !== '' || entry.lastModified !== ''
}
