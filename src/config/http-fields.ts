import { isIPv4, isIPv6 } from 'node:net'
import { z } from 'zod'
import { isHostName } from './addresses.ts'

/** RFC 9110, section 5.6.2. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/
const FIELD_NAME_HINT = 'must be the name of a header field'
const OWN_FIELD_HINT =
  'must not name a field that the gateway itself writes, such as Host, Content-Length, Via or X-Dripgate-*'

/** Fields that frame a message or belong to one connection. */
const FRAMING_FIELDS = [
  'connection',
  'content-length',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]

/** Fields that only the gateway writes, so that a route can neither set nor remove them. */
const OWN_FIELDS: Readonly<Record<Direction, ReadonlySet<string>>> = {
  request: new Set([
    ...FRAMING_FIELDS,
    'expect',
    'forwarded',
    'host',
    'via',
    'x-forwarded-for',
    'x-forwarded-host',
    'x-forwarded-proto',
    'x-request-id',
  ]),
  response: new Set([...FRAMING_FIELDS, 'via', 'x-request-id']),
}

export type Direction = 'request' | 'response'

/** Gives the name in lower case. */
export function fieldName() {
  return z.string().regex(TOKEN, { error: FIELD_NAME_HINT }).toLowerCase()
}

/** Names of fields that a route may remove, in lower case. */
export function removableFieldName(direction: Direction) {
  return fieldName().refine((name) => !isOwnField(name, direction), { error: OWN_FIELD_HINT })
}

/** A record of field name to exact value, or to whether the field is there at all, for matching. */
export function fieldsToMatch() {
  const present = z
    .boolean()
    .describe('true: the field must be there, with any value; false: it must not be there.')
  const wanted = z.union([fieldValue(), z.strictObject({ present })], {
    error: 'must be the exact value in quotes, or { present: true } or { present: false }',
  })
  return z
    .record(z.string().regex(TOKEN, { error: FIELD_NAME_HINT }), wanted)
    .transform((fields, ctx) => toLowerCaseNames(fields, ctx))
}

/** A record of field name to value, for fields that a route sets or adds. */
export function fieldsToSet(direction: Direction) {
  const name = z
    .string()
    .regex(TOKEN, { error: FIELD_NAME_HINT })
    .refine((text) => !isOwnField(text, direction), { error: OWN_FIELD_HINT })
  return z.record(name, fieldValue()).transform(toLowerCaseNames)
}

/** A method in upper case. CONNECT and TRACE are never forwarded (contract section 4). */
export function methodField() {
  return z
    .string()
    .regex(TOKEN, { error: 'must be an HTTP method such as GET' })
    .toUpperCase()
    .refine((method) => method !== 'CONNECT' && method !== 'TRACE', {
      error: 'must not be CONNECT or TRACE: the gateway never forwards them',
    })
}

/** `example.com`, `*.example.com` or an IP address (IPv6 in brackets), without port; in lower case. */
export function hostPatternField() {
  return z.string().toLowerCase().refine(isHostPattern, {
    error: 'must be a host name such as api.example.com or *.example.com, without scheme and port',
  })
}

/** An absolute path without a trailing slash; `/` is the root, which matches everything. */
export function pathField() {
  return z.string().transform((text, ctx) => {
    const problem = findPathProblem(text)
    if (problem === undefined) return text === '/' ? text : text.replace(/\/$/, '')
    ctx.addIssue(problem)
    return z.NEVER
  })
}

function fieldValue() {
  return z.string().regex(/^([\x21-\x7e\x80-\xff]([\x20-\x7e\x80-\xff\t]*[\x21-\x7e\x80-\xff])?)?$/, {
    error: 'must be the value of a header field: one line, without spaces around it',
  })
}

function isOwnField(name: string, direction: Direction): boolean {
  const lower = name.toLowerCase()
  return OWN_FIELDS[direction].has(lower) || lower.startsWith('x-dripgate-')
}

function toLowerCaseNames<T>(fields: Record<string, T>, ctx: z.core.$RefinementCtx): Record<string, T> {
  const lowered: Record<string, T> = {}
  for (const [name, value] of Object.entries(fields)) {
    const lower = name.toLowerCase()
    if (Object.hasOwn(lowered, lower)) {
      ctx.addIssue({ code: 'custom', path: [name], message: 'must be named once, in whatever case' })
    }
    lowered[lower] = value
  }
  return lowered
}

function isHostPattern(host: string): boolean {
  if (host.startsWith('[') && host.endsWith(']')) return isIPv6(host.slice(1, -1))
  if (isIPv4(host)) return true
  return isHostName(host.startsWith('*.') ? host.slice(2) : host)
}

/**
 * A route's path is compared with the canonical reading of a request's path, so a path that has
 * more than one reading would never match, and is refused here.
 */
function findPathProblem(path: string): string | undefined {
  if (!path.startsWith('/')) return 'must start with /'
  if (/[?#]/.test(path)) return 'must not hold a query or a fragment'
  if (/[*{}]/.test(path)) {
    return 'must not hold wildcards: a path matches itself and everything below it on segment boundaries'
  }
  if (path.includes('//')) return 'must not hold an empty segment'
  if (path.split('/').some(isDotSegment)) return 'must not hold the segments . or ..'
  if (/%(2f|5c)|\\/i.test(path)) return 'must not hold encoded slashes or backslashes'
  if (!/^(?:%[0-9a-f]{2}|[!$&'()+,\-./0-9:;=@A-Z_a-z~])+$/i.test(path)) {
    return 'must be a path as it is sent: visible ASCII, anything else percent-encoded'
  }
  return path.length > 1024 ? 'must be at most 1024 characters' : undefined
}

function isDotSegment(segment: string): boolean {
  const decoded = segment.replace(/%2e/gi, '.')
  return decoded === '.' || decoded === '..'
}
