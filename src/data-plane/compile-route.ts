import type { Config } from '../config/schema.ts'
import { compileRanges } from './address-ranges.ts'
import { compileCacheRules } from './cache/rules.ts'
import { CORS_ANSWER_FIELDS, compileCors } from './cors.ts'
import {
  HOP_BY_HOP,
  IETF_LIMIT_FIELDS,
  LEGACY_LIMIT_FIELDS,
  OWNED_IN_ANSWERS,
  OWNED_IN_REQUESTS,
} from './field-names.ts'
import type {
  AddressRules,
  FieldCondition,
  FieldRules,
  Route,
  RouteTimeouts,
  TokenField,
  TokenPlaces,
} from './route.ts'

type RouteConfig = Config['routes'][number]
type UpstreamConfig = Config['upstreams'][string]
type FieldChanges = RouteConfig['headers']['request']

/** `index` is the position in `all`, the routes of the configuration. */
export function compileRoute(
  entry: RouteConfig,
  index: number,
  upstream: UpstreamConfig | undefined,
  all: readonly RouteConfig[],
): Route {
  if (upstream === undefined) throw new Error(`route ${entry.name} names an upstream that is not there`)
  const isOpen = entry.keyspaces.length === 0
  const emitsIetf = !isOpen && entry.ratelimit_headers.includes('ietf')
  const emitsLegacy = !isOpen && entry.ratelimit_headers.includes('legacy')
  return {
    index,
    name: entry.name,
    isOpen,
    keyspaces: new Set(entry.keyspaces),
    upstream: entry.upstream,
    ...compilePrefixes(entry),
    methods: compileMethods(entry.match.methods),
    fieldConditions: Object.entries(entry.match.headers ?? {}).map(compileCondition),
    addresses: compileAddresses(entry),
    cors: entry.cors && compileCors(entry.cors, entry.match.methods),
    token: compileToken(entry, isOpen),
    hostHeader: entry.host_header,
    forwardCredentials: entry.forward_credentials,
    cost: entry.cost,
    cache: compileCacheRules(entry, upstream, all),
    timeouts: compileTimeouts(entry, upstream),
    bodyBytesMax: entry.max_body ?? Number.POSITIVE_INFINITY,
    onStoreError: entry.on_store_error,
    requestFields: compileFieldRules(entry.headers.request, [
      ...HOP_BY_HOP,
      ...OWNED_IN_REQUESTS,
      ...listStrippedFields(entry, isOpen),
    ]),
    responseFields: compileFieldRules(entry.headers.response, [
      ...HOP_BY_HOP,
      ...OWNED_IN_ANSWERS,
      ...(emitsIetf ? IETF_LIMIT_FIELDS : []),
      ...(emitsLegacy ? LEGACY_LIMIT_FIELDS : []),
      ...(entry.cors === undefined ? [] : CORS_ANSWER_FIELDS),
    ]),
    emitsIetf,
    emitsLegacy,
  }
}

function compilePrefixes({ match, rewrite, strip_path }: RouteConfig) {
  const isRewritten = strip_path || rewrite !== undefined
  return {
    stripPrefix: isRewritten && match.path !== '/' ? match.path : '',
    addPrefix: rewrite === undefined || rewrite === '/' ? '' : rewrite,
  }
}

type ConditionConfig = NonNullable<RouteConfig['match']['headers']>[string]

function compileCondition([name, wanted]: [string, ConditionConfig]): FieldCondition {
  if (typeof wanted === 'string') return { name, value: wanted, isAbsent: false }
  return { name, value: undefined, isAbsent: !wanted.present }
}

function compileAddresses({ allow_ips, deny_ips }: RouteConfig): AddressRules | undefined {
  if (allow_ips === undefined && deny_ips.length === 0) return undefined
  return { allowed: allow_ips && compileRanges(allow_ips), denied: compileRanges(deny_ips) }
}

function compileMethods(methods: readonly string[] | undefined): ReadonlySet<string> | undefined {
  if (methods === undefined) return undefined
  return new Set(methods.flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method])))
}

function compileToken(entry: RouteConfig, isOpen: boolean): TokenPlaces {
  const { headers, query = '', cookie = '' } = entry.token
  const strips = !isOpen && !entry.forward_credentials
  return {
    fields: headers.map(toTokenField),
    query,
    cookie,
    strippedQuery: strips ? query : '',
    strippedCookie: strips ? cookie : '',
  }
}

/** `basic` is no field but the Basic scheme of `Authorization`. */
function toTokenField(name: string): TokenField {
  if (name === 'authorization') return { name, scheme: 'bearer' }
  if (name === 'basic') return { name: 'authorization', scheme: 'basic' }
  return { name, scheme: 'raw' }
}

function listStrippedFields(entry: RouteConfig, isOpen: boolean): string[] {
  if (isOpen || entry.forward_credentials) return []
  return entry.token.headers.map((name) => toTokenField(name).name)
}

function compileTimeouts(entry: RouteConfig, upstream: UpstreamConfig): RouteTimeouts {
  return {
    connectMs: entry.timeouts.connect ?? upstream.timeouts.connect,
    responseMs: entry.timeouts.response ?? upstream.timeouts.response,
    idleMs: entry.timeouts.idle ?? upstream.timeouts.idle,
  }
}

function compileFieldRules(changes: FieldChanges, owned: readonly string[]): FieldRules {
  const drops = new Set([...owned, ...changes.remove, ...Object.keys(changes.set)])
  const set = [...Object.entries(changes.set), ...Object.entries(changes.add)].flat()
  return { drops, set, fates: new Map() }
}
