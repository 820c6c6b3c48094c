import type { Entry } from './entry.ts'
import type { SharedItem } from './messages.ts'

/*
 * Stored answers as bytes, for other nodes: the length of a head in JSON, the head, the body. A
 * version that reads anything else in it takes it for nothing.
 */

const VERSION = 1

interface Head {
  readonly v: typeof VERSION
  /** Which purges are meant by `entry.farSince`. */
  readonly era: string
  readonly vary?: readonly string[]
  readonly entry?: Omit<Entry, 'body' | 'since' | 'bornMs'> & { readonly ageMs: number }
}

export function encodeItem(item: SharedItem, era: string, nowMs: number): Uint8Array {
  if (item.kind === 'vary') return join({ v: VERSION, era, vary: item.names }, new Uint8Array())
  const { body, since: _, bornMs, ...rest } = item
  return join({ v: VERSION, era, entry: { ...rest, ageMs: nowMs - bornMs } }, body)
}

/** `since` is the sequence of this process before the bytes were asked for. */
export function decodeItem(
  bytes: Uint8Array,
  at: { readonly nowMs: number; readonly elapsedMs: number; readonly since: bigint },
): { readonly item: SharedItem; readonly era: string } | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  if (buffer.length < 4) return undefined
  const bodyAt = 4 + buffer.readUInt32BE(0)
  const head = parseHead(buffer.toString('utf8', 4, bodyAt))
  if (head?.vary !== undefined) return { era: head.era, item: { kind: 'vary', names: head.vary } }
  if (head?.entry === undefined) return undefined
  const { ageMs, ...entry } = head.entry
  // A copy: the rest of what was read need not be kept for it.
  const body = new Uint8Array(buffer.subarray(bodyAt))
  return { era: head.era, item: { ...entry, body, since: at.since, bornMs: at.nowMs - ageMs - at.elapsedMs } }
}

function join(head: Head, body: Uint8Array): Uint8Array {
  const text = Buffer.from(JSON.stringify(head))
  const length = Buffer.alloc(4)
  length.writeUInt32BE(text.length)
  return Buffer.concat([length, text, body])
}

function parseHead(text: string): Head | undefined {
  try {
    const head = JSON.parse(text) as Partial<Head> | null
    return head?.v === VERSION && typeof head.era === 'string' ? (head as Head) : undefined
  } catch {
    return undefined
  }
}
