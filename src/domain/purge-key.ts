/**
 * What `invalidate-cache` is asked to drop. A typed key reaches one kind of what is cached, a plain
 * one reaches them all, and the entry of the cache database that has this very name.
 */
export type PurgeKey =
  | { readonly kind: 'plain'; readonly name: string }
  | { readonly kind: 'url' | 'tag' | 'route' | 'key' | 'keyspace'; readonly name: string }
  | { readonly kind: 'all' }

const TYPED = /^(url|tag|route|key|keyspace):(.+)$/s
const ID_PREFIXES = { key: 'k_', keyspace: 'ks_' }

/** `key:` and `keyspace:` are types only before an id: `key:7` is a plain key. */
export function parsePurgeKey(text: string): PurgeKey {
  if (text === 'all:') return { kind: 'all' }
  const [, kind, name = ''] = TYPED.exec(text) ?? []
  switch (kind) {
    case 'url':
    case 'tag':
    case 'route':
      return { kind, name }
    case 'key':
    case 'keyspace':
      return name.startsWith(ID_PREFIXES[kind]) ? { kind, name } : { kind: 'plain', name: text }
    default:
      return { kind: 'plain', name: text }
  }
}
