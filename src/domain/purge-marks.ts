import type { PurgeKey } from './purge-key.ts'

/**
 * A cached answer bears marks: its URL, its route, its key and keyspace, the name that its route
 * gives it, and its tags. A purge raises the counters of marks. A mark is a number, the hash of a
 * typed name, so that counters need no list of names; a collision costs a miss and nothing else.
 */
const HASHED_MARKS = 65_536
/** Every answer bears it. */
export const ALL_MARK = HASHED_MARKS
/** Not of answers: what threads remember of keys and keyspaces. */
export const KEY_RECORDS_MARK = HASHED_MARKS + 1
export const MARKS = HASHED_MARKS + 2

type MarkKind = 'url' | 'tag' | 'name' | 'route' | 'key' | 'keyspace' | 'group'

/** FNV-1a, folded to 16 bits. Nodes tell each other marks, so this is part of their protocol. */
export function toMark(kind: MarkKind, name: string): number {
  let hash = 0x811c9dc5
  const text = `${kind}:${name}`
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  }
  return (hash ^ (hash >>> 16)) & (HASHED_MARKS - 1)
}

/**
 * `host` may be empty, for all hosts. Spellings that a server may take for the same URL share a
 * mark: percent-encoding is undone, the host is in lower case without the usual ports.
 */
export function toUrlMark(host: string, pathAndQuery: string): number {
  const plainHost = host.toLowerCase().replace(/:(?:80|443)$/, '')
  return toMark('url', `${plainHost}${decodeBytes(pathAndQuery)}`)
}

/** What a purge raises. A plain key reaches names, tags and URLs alike, and what is known of keys. */
export function listPurgeMarks(key: PurgeKey): readonly number[] {
  if (key.kind === 'all') return [ALL_MARK]
  const name = toByteString(key.name)
  switch (key.kind) {
    case 'url':
      return [parseUrlMark(name)]
    case 'tag':
    case 'route':
      return [toMark(key.kind, name)]
    case 'key':
    case 'keyspace':
      return [toMark(key.kind, name), KEY_RECORDS_MARK]
    case 'plain':
      return [toMark('name', name), toMark('tag', name), parseUrlMark(name), KEY_RECORDS_MARK]
  }
}

/** `[http[s]:]//HOST/PATH?QUERY`, or a path for all hosts. A fragment is never sent, so it is cut off. */
function parseUrlMark(url: string): number {
  const rest = (url.split('#', 1)[0] ?? '').replace(/^(?:https?:)?\/\//i, '')
  if (rest.startsWith('/')) return toUrlMark('', rest)
  const slash = rest.search(/[/?]/)
  if (slash < 0) return toUrlMark(rest, '/')
  const path = rest.slice(slash)
  return toUrlMark(rest.slice(0, slash), path.startsWith('?') ? `/${path}` : path)
}

/** The bytes that percent-encoding stands for, one character each. */
function decodeBytes(text: string): string {
  return text.replace(/%([0-9a-f]{2})/gi, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  )
}

/** Fields and targets are byte strings, one character each; text from elsewhere becomes UTF-8. */
function toByteString(text: string): string {
  return text.toWellFormed().replace(/[^\x00-\x7f]+/g, (wide) => decodeBytes(encodeURIComponent(wide)))
}
