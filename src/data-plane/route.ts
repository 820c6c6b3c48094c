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
  /** `undefined` takes every method. HEAD is in it where GET is. */
  readonly methods: ReadonlySet<string> | undefined
  readonly fieldConditions: readonly FieldCondition[]
  readonly token: TokenPlaces
  readonly hostHeader: 'preserve' | 'upstream'
  readonly forwardCredentials: boolean
  readonly cost: number
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
  readonly value: string
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
export type FieldFate = 'drop' | 'pass' | 'origin' | 'cookie' | 'length'

export interface FieldRules {
  /** Lower-case names of fields that do not pass: the protocol's, the gateway's and the route's. */
  readonly drops: ReadonlySet<string>
  /** Raw list of what the route sets. */
  readonly set: readonly string[]
  /** What becomes of the names that were seen so far, as they were written. */
  readonly fates: Map<string, FieldFate>
}

/** Whether the route takes the method; the case of methods counts (RFC 9110 section 9.1). */
export function takesMethod(route: Route, method: string): boolean {
  return route.methods === undefined || route.methods.has(method)
}

/** Whether each field that the route asks for is there with its value, in one of its lines. */
export function hasFields(route: Route, rawHeaders: RawHeaders): boolean {
  for (const condition of route.fieldConditions) {
    if (!hasField(rawHeaders, condition)) return false
  }
  return true
}

function hasField(rawHeaders: RawHeaders, condition: FieldCondition): boolean {
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i + 1] === condition.value && equalsIgnoreCase(rawHeaders[i] ?? '', condition.name)) {
      return true
    }
  }
  return false
}
