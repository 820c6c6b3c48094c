import { parsePurgeKey } from '../domain/purge-key.ts'
import type { CacheEntry, CacheOutcome, CacheStore, CacheValues } from '../ports/cache-store.ts'
import type { CachePurger, PurgeOutcome } from '../ports/purge.ts'

/** What the calls of the script API work with (contract section 6). */
export interface ScriptKeys {
  readonly cacheStore: CacheStore
  readonly purger: CachePurger
}

const KEY_BYTES_MAX = 1024
const CONTROL = /\p{Cc}/u
/** Of all values that one call reads. */
const READ_BYTES_MAX = 16 * 1024 * 1024

/** Completes the sentence "KEY …"; `undefined` for a key that may be named. */
export function explainKeyFault(key: string): string | undefined {
  if (key === '') return 'must not be empty'
  if (key.includes('*')) return 'must not contain "*": wildcards are not supported, name each key'
  if (CONTROL.test(key)) return 'must not contain control characters'
  if (!key.isWellFormed()) return 'must be well-formed Unicode'
  if (Buffer.byteLength(key) > KEY_BYTES_MAX) return `must have at most ${KEY_BYTES_MAX} bytes`
  return undefined
}

/** Positions of the keys that are outside of all namespaces, or the gateway's own. */
export function listForbidden(
  keys: readonly string[],
  rules: { readonly namespaces: readonly string[]; readonly reserved: readonly string[] },
): readonly number[] {
  const isAnyAllowed = rules.namespaces.includes('*')
  const startsWithOne = (key: string, prefixes: readonly string[]) =>
    prefixes.some((prefix) => key.startsWith(prefix))
  return keys.flatMap((key, position) => {
    const isAllowed = isAnyAllowed || startsWithOne(key, rules.namespaces)
    return isAllowed && !startsWithOne(key, rules.reserved) ? [] : [position]
  })
}

export interface ListOutcome extends CacheOutcome {
  /** Different keys. */
  readonly requested: number
}

export async function removeKeys(
  { cacheStore }: Pick<ScriptKeys, 'cacheStore'>,
  keys: readonly string[],
): Promise<ListOutcome> {
  const distinct = [...new Set(keys)]
  return { ...(await cacheStore.removeMany(distinct)), requested: distinct.length }
}

export async function getKeys(
  { cacheStore }: Pick<ScriptKeys, 'cacheStore'>,
  keys: readonly string[],
): Promise<ListOutcome & CacheValues & { readonly keys: readonly string[] }> {
  const distinct = [...new Set(keys)]
  const outcome = await cacheStore.getMany(distinct, READ_BYTES_MAX)
  return { ...outcome, requested: distinct.length, keys: distinct }
}

export async function setKeys(
  { cacheStore }: Pick<ScriptKeys, 'cacheStore'>,
  entries: readonly CacheEntry[],
): Promise<ListOutcome> {
  const requested = new Set(entries.map(({ key }) => key)).size
  return { ...(await cacheStore.setMany(entries)), requested }
}

export interface Invalidation {
  /** `undefined`: it failed. */
  readonly purge: PurgeOutcome | undefined
  /** Of the key itself in the cache database; none where the key is typed. */
  readonly removed: CacheOutcome | undefined
  readonly cause?: unknown
}

/**
 * The key itself goes first: an upstream that builds its answer from it must not find the old one
 * after the answers were dropped. They are dropped even where the key could not be.
 */
export async function invalidate({ cacheStore, purger }: ScriptKeys, key: string): Promise<Invalidation> {
  const isPlain = parsePurgeKey(key).kind === 'plain'
  const removed = isPlain ? await cacheStore.removeMany([key]) : undefined
  try {
    const purge = await purger.purge(key)
    return { purge, removed, cause: removed?.cause }
  } catch (cause) {
    return { purge: undefined, removed, cause }
  }
}
