import { createHash } from 'node:crypto'
import type { Config } from '../../config/schema.ts'
import { parseTemplate, type TemplatePart } from '../../domain/template.ts'

/** `cache` of a route, compiled. */
export interface CacheRules {
  /** Part of every key: answers of a route that was changed are not those of what it was before. */
  readonly fingerprint: string
  /** Answered from the cache; none where the route only has to notice what changes others' answers. */
  readonly methods: ReadonlySet<string>
  readonly varyBy: 'key' | 'keyspace' | 'shared'
  readonly ttlSeconds: number | undefined
  readonly tags: readonly Template[]
  readonly name: Template | undefined
  readonly entryBytesMax: number
  readonly staleWhileRevalidateMs: number
  readonly staleIfErrorMs: number
  readonly hitCost: number
  /** What is taken before it is known whether there is a hit: nothing where hits have another price. */
  readonly firstCost: number
}

export type Template = readonly TemplatePart[]
type RouteConfig = Config['routes'][number]

const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE'])

export function isSafe(method: string): boolean {
  return SAFE_METHODS.has(method)
}

/** `undefined` for a route that has nothing to do with the cache, neither for itself nor for others. */
export function compileCacheRules(
  entry: RouteConfig,
  upstream: unknown,
  all: readonly RouteConfig[],
): CacheRules | undefined {
  const { cache } = entry
  if (cache === undefined)
    return mayChangeCached(entry, all) ? { ...WATCH_ONLY, ...toCosts(entry) } : undefined
  return {
    fingerprint: createHash('sha256')
      .update(JSON.stringify([entry, upstream]))
      .digest('base64url')
      .slice(0, 22),
    methods: new Set(cache.methods),
    varyBy: cache.vary_by,
    ttlSeconds: cache.ttl === undefined ? undefined : Math.floor(cache.ttl / 1000),
    tags: cache.tags.map(compileTemplate),
    name: cache.key === undefined ? undefined : compileTemplate(cache.key),
    entryBytesMax: cache.max_entry,
    staleWhileRevalidateMs: cache.stale_while_revalidate,
    staleIfErrorMs: cache.stale_if_error,
    ...toCosts(entry),
  }
}

const WATCH_ONLY: Omit<CacheRules, 'hitCost' | 'firstCost'> = {
  fingerprint: '',
  methods: new Set(),
  varyBy: 'shared',
  ttlSeconds: undefined,
  tags: [],
  name: undefined,
  entryBytesMax: 0,
  staleWhileRevalidateMs: 0,
  staleIfErrorMs: 0,
}

function toCosts({ cost, cache }: RouteConfig): Pick<CacheRules, 'hitCost' | 'firstCost'> {
  const hitCost = cache?.cost ?? cost
  return { hitCost, firstCost: hitCost === cost ? cost : 0 }
}

/** Whether an unsafe request of this route may have the URL of an answer that another route caches. */
function mayChangeCached({ match }: RouteConfig, all: readonly RouteConfig[]): boolean {
  if (match.methods?.every(isSafe) === true) return false
  return all.some(
    (other) =>
      other.cache !== undefined &&
      (isBelow(match.path, other.match.path) || isBelow(other.match.path, match.path)),
  )
}

function isBelow(path: string, root: string): boolean {
  return root === '/' || path === root || path.startsWith(`${root}/`)
}

/** The configuration has been validated. */
function compileTemplate(text: string): Template {
  const parsed = parseTemplate(text)
  return parsed.kind === 'template' ? parsed.parts : []
}
