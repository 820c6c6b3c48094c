import { type AddressRanges, isWithin } from './address-ranges.ts'
import type { CacheRules } from './cache/rules.ts'
import type { Cors } from './cors.ts'
import { equalsIgnoreCase, type RawHeaders } from './raw-headers.ts'

/** A rule for requests, compiled: everything that a request needs to know of it is precomputed. */
export interface Route {
  /** Position in the configuration, from 0; the id in metrics. */
  readonly index: number
  readonly name: string
  /** Without keyspaces: no token is read, none is needed, and none is cut out. */
  readonly isOpen: boolean
  /** Keys of these are good here. */
  readonly keyspaces: ReadonlySet<string>
  readonly upstream: string
  /** Cut off the front of the path before it is forwarded; `''` cuts nothing. */
  readonly stripPrefix: string
  /** Put in front of what is left of it. */
  readonly addPrefix: string
  /** `undefined` takes every method. HEAD is in it where GET is. */
  readonly methods: ReadonlySet<string> | undefined
  readonly fieldConditions: readonly FieldCondition[]
  /** `undefined`: requests may come from anywhere. */
  readonly addresses: AddressRules | undefined
  /** `undefined`: pages of other origins are none of the gateway's business. */
  readonly cors: Cors | undefined
  readonly token: TokenPlaces
  readonly hostHeader: 'preserve' | 'upstream'
  readonly forwardCredentials: boolean
  readonly cost: number
  /** `undefined` where answers are neither cached nor able to outdate cached ones. */
  readonly cache: CacheRules | undefined
  readonly timeouts: RouteTimeouts
  /** `Infinity` for no limit, 0 for no body at all. */
  readonly bodyBytesMax: number
  readonly onStoreError: 'deny' | 'allow' | 'local'
  readonly requestFields: FieldRules
  readonly responseFields: FieldRules
  /** Whether answers carry `RateLimit` and `RateLimit-Policy`. */
  readonly emitsIetf: boolean
  /** Whether answers carry `X-RateLimit-*`. */
  readonly emitsLegacy: boolean
}

export interface FieldCondition {
  /** In lower case. */
  readonly name: string
  /** `undefined` for any. */
  readonly value: string | undefined
  /** The field must not be there. */
  readonly isAbsent: boolean
}

export interface AddressRules {
  /** `undefined`: all but those that are denied. */
  readonly allowed: AddressRanges | undefined
  readonly denied: AddressRanges
}

/** In milliseconds; 0 waits for ever (not for `connectMs`). */
export interface RouteTimeouts {
  readonly connectMs: number
  readonly responseMs: number
  readonly idleMs: number
}

export interface TokenPlaces {
  readonly fields: readonly TokenField[]
  /** Name of a query parameter; `''` for none. */
  readonly query: string
  /** Name of a cookie; `''` for none. */
  readonly cookie: string
  /** What is cut out of forwarded requests; `''` where credentials are forwarded. */
  readonly strippedQuery: string
  readonly strippedCookie: string
}

export interface TokenField {
  /** In lower case. */
  readonly name: string
  /** `raw`: the whole value is the token. */
  readonly scheme: 'bearer' | 'basic' | 'raw'
}

/**
 * `origin`: passes from trusted peers only; `length`: passes where a body may follow; `cookie`: is
 * searched for the token.
 */
export type FieldFate = 'drop' | 'pass' | 'origin' | 'trace' | 'trace_state' | 'cookie' | 'length'

export interface FieldRules {
  /** Lower-case names of fields that do not pass: the protocol's, the gateway's and the route's. */
  readonly drops: ReadonlySet<string>
  /** Raw list of what the route sets and adds. */
  readonly set: readonly string[]
  /** What becomes of the names that were seen so far, as they were written. */
  readonly fates: Map<string, FieldFate>
}

/** Whether the route takes the method; the case of methods counts (RFC 9110 section 9.1). */
export function takesMethod(route: Route, method: string): boolean {
  return route.methods === undefined || route.methods.has(method)
}

/**
 * Stands, in a list of fields, for a value that is not known yet but will do: a preflight only
 * names the fields of the request that is to come. No request can hold it.
 */
export const ANY_VALUE = '\u0000'

/** Whether each field is there as the route asks for it, in one of its lines, or not there. */
export function hasFields(route: Route, rawHeaders: RawHeaders): boolean {
  for (const condition of route.fieldConditions) {
    if (hasField(rawHeaders, condition) === condition.isAbsent) return false
  }
  return true
}

function hasField(rawHeaders: RawHeaders, { name, value }: FieldCondition): boolean {
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const found = rawHeaders[i + 1]
    const isFit = value === undefined || found === value || found === ANY_VALUE
    if (isFit && equalsIgnoreCase(rawHeaders[i] ?? '', name)) return true
  }
  return false
}

/** Whether requests from this address may use the route. */
export function mayEnter({ allowed, denied }: AddressRules, address: string): boolean {
  return !isWithin(denied, address) && (allowed === undefined || isWithin(allowed, address))
}
