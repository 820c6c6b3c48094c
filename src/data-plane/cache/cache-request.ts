import { removeCookie, removeParameter } from '../credentials.ts'
import type { ExchangeState } from '../exchange.ts'
import { isOriginField, toDashed } from '../field-names.ts'
import { joinFields, type RawHeaders, trimBlanks } from '../raw-headers.ts'
import type { RequestHead } from '../request-check.ts'
import type { Route } from '../route.ts'
import { type Directives, readRequestDirectives } from './cache-control.ts'
import type { CacheRules } from './rules.ts'

/** A request as the cache sees it. */
export interface CacheRequest {
  /** Tells apart everything that the upstream may tell apart, and who may see the answer. */
  readonly primaryKey: string
  /** Empty where the client asks for nothing special. */
  readonly directives: Directives
  readonly ifNoneMatch: string
  readonly ifModifiedSince: string
  /** It has credentials, in whatever place (RFC 9111 section 3.5). */
  readonly isAuthorized: boolean
}

/** What a field means to the cache. */
type Role =
  | 'none'
  | 'cache-control'
  | 'pragma'
  | 'authorization'
  | 'if-none-match'
  | 'if-modified-since'
  /** The answer depends on it in ways that no key can tell. */
  | 'special'
  /** Says, if the peer is trusted, what the client asked for. */
  | 'origin'
  /** The same, beside who the client is. */
  | 'forwarded'

const NO_DIRECTIVES: Directives = new Map()
const ROLES_MAX = 1024
const roles = new Map<string, Role>()

const SPECIAL: ReadonlySet<string> = new Set([
  'range',
  'if-range',
  'if-match',
  'if-unmodified-since',
  'upgrade',
  // Fields by which some upstreams let a request be another one than its first line says.
  'x-http-method',
  'x-http-method-override',
  'x-method-override',
  'x-original-url',
  'x-original-uri',
  'x-rewrite-url',
  'x-original-host',
  'x-host',
])
const NAMED: ReadonlySet<string> = new Set<Role>([
  'cache-control',
  'pragma',
  'authorization',
  'if-none-match',
  'if-modified-since',
])

/** `undefined`: the cache has no part in this request. */
export function readCacheRequest(exchange: ExchangeState, rules: CacheRules): CacheRequest | undefined {
  const { route, head, client, degraded } = exchange
  if (route === undefined || head === undefined) return undefined
  // Without an identity nobody knows whose answer it is.
  if (degraded === 'allow' || (!route.isOpen && exchange.kid === '')) return undefined
  if (head.isChunked || head.contentLength > 0 || head.isWebSocket) return undefined
  const { rawHeaders } = client
  let cacheControl = ''
  let pragma = ''
  let ifNoneMatch = ''
  let ifModifiedSince = ''
  let origin = ''
  let isAuthorized = !route.isOpen
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? ''
    const value = rawHeaders[i + 1] ?? ''
    switch (roles.get(name) ?? learnRole(name)) {
      case 'none':
        break
      case 'special':
        return undefined
      case 'cache-control':
        cacheControl = append(cacheControl, value)
        break
      case 'pragma':
        pragma = append(pragma, value)
        break
      case 'authorization':
        isAuthorized = true
        break
      case 'if-none-match':
        ifNoneMatch = append(ifNoneMatch, value)
        break
      case 'if-modified-since':
        ifModifiedSince = value
        break
      case 'origin':
        if (exchange.address.isPeerTrusted) origin += `\n${name.toLowerCase()}:${value}`
        break
      case 'forwarded':
        if (exchange.address.isPeerTrusted) origin += readForwardedOrigin(value)
    }
  }
  return {
    primaryKey: buildPrimaryKey(exchange, route, head, rules) + origin,
    directives:
      cacheControl === '' && pragma === '' ? NO_DIRECTIVES : readRequestDirectives(cacheControl, pragma),
    ifNoneMatch,
    ifModifiedSince,
    isAuthorized,
  }
}

/**
 * What `Forwarded` says of host and scheme; not of whom it comes from, or each client had answers of
 * its own. It may take more for that than it is, such as what stands in quotes, but never less.
 */
function readForwardedOrigin(value: string): string {
  const pairs = value.match(/(?:host|proto)=(?:"(?:[^"\\]|\\.)*"|[^;, \t]*)/gi)
  return pairs === null ? '' : `\nforwarded:${pairs.join(';')}`
}

/** The path and query that the client asked for, byte for byte, but never a token. */
export function toUrlPath(route: Route, head: RequestHead): string {
  if (!head.hasQuery) return head.path
  const { query } = route.token
  const rest = route.isOpen || query === '' ? head.query : removeParameter(head.query, query)
  return rest === undefined ? head.path : `${head.path}?${rest}`
}

/** The key under which the variant lies that this request selects. */
export function toVariantKey(exchange: ExchangeState, primaryKey: string, names: readonly string[]): string {
  let key = primaryKey
  for (const name of names) key += `\n\n${name}:${readVarying(exchange, name)}`
  return key
}

function buildPrimaryKey(
  exchange: ExchangeState,
  route: Route,
  head: RequestHead,
  rules: CacheRules,
): string {
  const who =
    route.isOpen || rules.varyBy === 'shared' ? '' : rules.varyBy === 'key' ? exchange.kid : exchange.ksid
  return `${rules.fingerprint}${who}\n${exchange.client.protocol}://${head.host}${toUrlPath(route, head)}`
}

/** The value that the upstream saw of a field that an answer varies by; tokens stand for their key. */
function readVarying(exchange: ExchangeState, name: string): string {
  const { route, client, head } = exchange
  switch (name) {
    case 'host':
      return head?.host ?? ''
    case 'x-dripgate-key-id':
      return exchange.kid
    case 'x-dripgate-keyspace-id':
      return exchange.ksid
    case 'x-forwarded-for':
    case 'x-real-ip':
    case 'forwarded':
      return exchange.remoteAddress
  }
  if (route === undefined || route.isOpen) return joinFields(client.rawHeaders, name)
  if (route.token.fields.some((field) => field.name === name)) return exchange.kid
  if (name === 'cookie' && route.token.cookie !== '') {
    return exchange.kid + removeCookie(joinFields(client.rawHeaders, name), route.token.cookie)
  }
  return joinFields(client.rawHeaders, name)
}

function learnRole(name: string): Role {
  const role = toRole(name)
  if (roles.size < ROLES_MAX) roles.set(Buffer.from(name, 'latin1').toString('latin1'), role)
  return role
}

function toRole(name: string): Role {
  const lower = name.toLowerCase()
  if (NAMED.has(lower)) return lower as Role
  const dashed = toDashed(lower)
  if (SPECIAL.has(dashed)) return 'special'
  if (lower === 'forwarded') return 'forwarded'
  if (dashed === 'x-forwarded-for' || dashed === 'x-real-ip') return 'none'
  return isOriginField(dashed) ? 'origin' : 'none'
}

function append(list: string, value: string): string {
  const item = trimBlanks(value)
  return list === '' ? item : `${list}, ${item}`
}

/** `Vary` as lower-case names in order; `undefined` where no later request could be known to match. */
export function readVaryNames(rawHeaders: RawHeaders): readonly string[] | undefined {
  const vary = joinFields(rawHeaders, 'vary')
  if (vary === '') return []
  const names = new Set<string>()
  for (const item of vary.split(',')) {
    const name = trimBlanks(item).toLowerCase()
    if (name === '*' || name === 'x-request-id' || name === 'via') return undefined
    if (name !== '') names.add(name)
  }
  return names.size > VARY_NAMES_MAX ? undefined : [...names].sort()
}

const VARY_NAMES_MAX = 32
