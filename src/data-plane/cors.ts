import type { Config } from '../config/schema.ts'
import { joinFields, type RawHeaders } from './raw-headers.ts'

/** What pages of other origins may do with a route (the Fetch standard, section "CORS protocol"). */
export interface Cors {
  /** Any origin may. */
  readonly isAny: boolean
  readonly origins: ReadonlySet<string>
  readonly wildcards: readonly OriginPattern[]
  /** Raw list for every answer to an origin that may. */
  readonly fields: RawHeaders
  /** Raw list for preflights alone. */
  readonly preflightFields: RawHeaders
  /** Any field may be sent: those that a preflight asks for are repeated to it. */
  readonly allowsAnyField: boolean
}

/** An origin with one or more labels between the two. */
interface OriginPattern {
  readonly before: string
  readonly after: string
}

type CorsConfig = NonNullable<Config['routes'][number]['cors']>

/** Fields of answers that only the gateway writes where a route has CORS. */
export const CORS_ANSWER_FIELDS: readonly string[] = [
  'access-control-allow-credentials',
  'access-control-allow-headers',
  'access-control-allow-methods',
  'access-control-allow-origin',
  'access-control-allow-private-network',
  'access-control-expose-headers',
  'access-control-max-age',
]

const METHODS: readonly string[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']
const PREFLIGHT_VARY = 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers'
/** A list of field names (RFC 9110 section 5.6.2). */
const FIELD_LIST = /^[!#$%&'*+.^_`|~0-9A-Za-z, -]{1,4096}$/
const LABELS = /^[a-z0-9.-]+$/

/** `methods` are those of the route; `undefined` for all. */
export function compileCors(config: CorsConfig, methods: readonly string[] | undefined): Cors {
  const { origins, credentials, expose, headers } = config
  const allowsAnyField = headers.includes('*')
  const patterns = origins.filter((origin) => origin.includes('://*.'))
  const fields = credentials ? ['Access-Control-Allow-Credentials', 'true'] : []
  const exposed = expose.length === 0 ? [] : ['Access-Control-Expose-Headers', expose.join(', ')]
  const allowed =
    allowsAnyField || headers.length === 0 ? [] : ['Access-Control-Allow-Headers', headers.join(', ')]
  const preflightFields = ['Access-Control-Allow-Methods', (config.methods ?? methods ?? METHODS).join(', ')]
  preflightFields.push('Access-Control-Max-Age', String(Math.floor(config.max_age / 1000)), ...allowed)
  return {
    isAny: origins.includes('*'),
    origins: new Set(origins),
    wildcards: patterns.map((pattern) => {
      const star = pattern.indexOf('*')
      return { before: pattern.slice(0, star), after: pattern.slice(star + 1) }
    }),
    fields: [...fields, ...exposed],
    preflightFields,
    allowsAnyField,
  }
}

/** Adds what lets the page that asked read the answer; nothing where its origin may not. */
export function addCorsFields(fields: string[], cors: Cors, rawHeaders: RawHeaders): void {
  if (!cors.isAny) fields.push('Vary', 'Origin')
  addAllowed(fields, cors, rawHeaders)
}

/** Adds what a preflight is answered. */
export function addPreflightFields(fields: string[], cors: Cors, rawHeaders: RawHeaders): void {
  fields.push('Vary', PREFLIGHT_VARY)
  if (!addAllowed(fields, cors, rawHeaders)) return
  for (const part of cors.preflightFields) fields.push(part)
  if (!cors.allowsAnyField) return
  const asked = joinFields(rawHeaders, 'access-control-request-headers')
  if (FIELD_LIST.test(asked)) fields.push('Access-Control-Allow-Headers', asked)
}

/** Whether the origin may. */
function addAllowed(fields: string[], cors: Cors, rawHeaders: RawHeaders): boolean {
  const origin = cors.isAny ? '*' : findAllowedOrigin(cors, rawHeaders)
  if (origin === undefined) return false
  fields.push('Access-Control-Allow-Origin', origin)
  for (const part of cors.fields) fields.push(part)
  return true
}

function findAllowedOrigin(cors: Cors, rawHeaders: RawHeaders): string | undefined {
  // Several fields make a list, which is no origin.
  const origin = joinFields(rawHeaders, 'origin')
  if (origin === '' || origin === '*') return undefined
  if (cors.origins.has(origin)) return origin
  return cors.wildcards.some((pattern) => fits(pattern, origin)) ? origin : undefined
}

function fits({ before, after }: OriginPattern, origin: string): boolean {
  if (origin.length <= before.length + after.length) return false
  if (!origin.startsWith(before) || !origin.endsWith(after)) return false
  return LABELS.test(origin.slice(before.length, origin.length - after.length))
}
