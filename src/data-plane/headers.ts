import { isTraceparent } from '../domain/traceparent.ts'
import type { ClientAddress } from './client-address.ts'
import { removeCookie } from './credentials.ts'
import { isOriginField, isOwnField, NEVER_IN_TRAILERS, toDashed } from './field-names.ts'
import { addForwardingFields } from './forwarding-fields.ts'
import {
  equalsIgnoreCase,
  findComma,
  findField,
  hasListItem,
  joinFields,
  type RawHeaders,
  trimBlanks,
} from './raw-headers.ts'
import type { RequestHead } from './request-check.ts'
import type { FieldFate, Route } from './route.ts'

export interface UpstreamHeadersInput {
  readonly route: Route
  readonly head: RequestHead
  /** Of the client's request. */
  readonly rawHeaders: RawHeaders
  readonly client: ClientAddress
  /** Of the client's connection. */
  readonly protocol: 'http' | 'https'
  readonly requestId: string
  /** Stands in for the client's trace context; `''`: none does. Left out: the client's passes as it is. */
  readonly traceparent?: string | undefined
  /** The client's `tracestate` passes whatever stands in for its `traceparent`. */
  readonly keepsTraceState?: boolean
  /** Who calls, where that is known. */
  readonly kid: string | undefined
  readonly ksid: string | undefined
  /** Host and port of the target, for `host_header: upstream`. */
  readonly upstreamHost: string
}

export interface AnswerFieldsInput {
  readonly route: Route
  readonly status: number
  /** Of the upstream's answer. */
  readonly rawHeaders: RawHeaders
  /** This is the 101 of an upgrade that is relayed. */
  readonly hasUpgraded: boolean
}

const CONTENT_LENGTH = 'content-length'
const UPGRADE = 'upgrade'
export const TRACEPARENT = 'traceparent'
const REQUEST_ID_LENGTH_MAX = 128
/** Names remembered for each route and direction; those that come later are judged each time. */
const FATES_MAX = 512

/**
 * The fields to send upstream that follow from the client's fields and who it is; what belongs to
 * one request alone is in `listFreshFields`. First what the client may pass on, then what the gateway adds, so
 * that nothing in the request, `Connection` least of all, removes a field of the gateway. The
 * framing is that of the head: `Content-Length` is in it, `Transfer-Encoding` is left to the
 * upstream client.
 */
export function buildSteadyFields(input: UpstreamHeadersInput): string[] {
  const { route, head, rawHeaders } = input
  const { fates } = route.requestFields
  const headers = [
    'Host',
    route.hostHeader === 'upstream' || head.host === '' ? input.upstreamHost : head.host,
  ]
  const nominees = listNominees(rawHeaders)
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? ''
    const fate = fates.get(name) ?? learnFate(fates, name, toRequestFate(name, route))
    if (fate === 'drop' || (fate === 'origin' && !input.client.isPeerTrusted)) continue
    if (fate === 'trace' && input.traceparent !== undefined) continue
    if (fate === 'trace_state' && input.traceparent !== undefined && input.keepsTraceState !== true) continue
    if (nominees?.has(name.toLowerCase()) === true) continue
    if (fate === 'cookie') addCookie(headers, name, rawHeaders[i + 1] ?? '', route)
    else headers.push(name, rawHeaders[i + 1] ?? '')
  }
  addFraming(headers, input)
  addForwardingFields(headers, input)
  if (input.kid !== undefined) headers.push('X-Dripgate-Key-Id', input.kid)
  if (input.ksid !== undefined) headers.push('X-Dripgate-Keyspace-Id', input.ksid)
  addAll(headers, route.requestFields.set)
  return headers
}

/** The fields to send upstream that no other request has. */
export function listFreshFields({ route, requestId, traceparent }: UpstreamHeadersInput): string[] {
  if (traceparent === undefined || traceparent === '' || route.requestFields.drops.has(TRACEPARENT))
    return ['X-Request-Id', requestId]
  return ['X-Request-Id', requestId, TRACEPARENT, traceparent]
}

function toRequestFate(name: string, route: Route): FieldFate {
  const { drops } = route.requestFields
  const lower = name.toLowerCase()
  const dashed = toDashed(lower)
  if (drops.has(lower) || drops.has(dashed) || isOwnField(dashed)) return 'drop'
  if (isOriginField(dashed)) return 'origin'
  if (lower === TRACEPARENT) return 'trace'
  if (lower === 'tracestate') return 'trace_state'
  return lower === 'cookie' && route.token.strippedCookie !== '' ? 'cookie' : 'pass'
}

function toAnswerFate(name: string, route: Route): FieldFate {
  const lower = name.toLowerCase()
  if (route.responseFields.drops.has(lower) || isOwnField(lower)) return 'drop'
  return lower === CONTENT_LENGTH ? 'length' : 'pass'
}

/** Remembers what becomes of a name; what is kept does not hold on to the head that it came in. */
function learnFate(fates: Map<string, FieldFate>, name: string, fate: FieldFate): FieldFate {
  if (fates.size < FATES_MAX) fates.set(Buffer.from(name, 'latin1').toString('latin1'), fate)
  return fate
}

function addCookie(headers: string[], name: string, value: string, route: Route): void {
  const rest = removeCookie(value, route.token.strippedCookie)
  if (rest !== '') headers.push(name, rest)
}

function addFraming(headers: string[], input: UpstreamHeadersInput): void {
  const { head, rawHeaders } = input
  if (head.contentLength >= 0) headers.push('Content-Length', String(head.contentLength))
  // Not passed on but said anew: the upstream may send trailers, and the client takes them.
  if (hasListItem(joinFields(rawHeaders, 'te'), 'trailers')) headers.push('TE', 'trailers')
  if (head.isWebSocket) headers.push('Connection', 'Upgrade', 'Upgrade', 'websocket')
}

/**
 * The fields to send to the client that follow from an upstream's answer. Framing is the front's business:
 * `Transfer-Encoding` is dropped, and `Content-Length` kept where the status allows one.
 */
export function buildSteadyAnswerFields({
  route,
  status,
  rawHeaders,
  hasUpgraded,
}: AnswerFieldsInput): string[] {
  const { fates } = route.responseFields
  const headers: string[] = []
  const nominees = listNominees(rawHeaders)
  const hasLength = status >= 200 && status !== 204
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? ''
    const fate = fates.get(name) ?? learnFate(fates, name, toAnswerFate(name, route))
    if (fate === 'drop') continue
    if (fate === 'length' ? !hasLength : nominees?.has(name.toLowerCase()) === true) continue
    headers.push(name, rawHeaders[i + 1] ?? '')
  }
  if (hasUpgraded)
    headers.push('Connection', 'Upgrade', 'Upgrade', findField(rawHeaders, UPGRADE) ?? 'websocket')
  headers.push('Via', appendTo(joinFields(rawHeaders, 'via'), '1.1 dripgate'))
  addAll(headers, route.responseFields.set)
  return headers
}

/** The fields to send to the client that belong to one answer alone. */
export function listFreshAnswerFields(answer: {
  readonly requestId: string
  /** Raw list of `RateLimit` and its kin. */
  readonly limitFields: RawHeaders
  /** The store could not be asked, and this was done instead. */
  readonly degraded: 'allow' | 'local' | undefined
}): string[] {
  const { requestId, limitFields, degraded } = answer
  const fields = withRequestId(requestId, limitFields)
  if (degraded !== undefined) fields.push('X-Dripgate-Degraded', degraded)
  return fields
}

function withRequestId(requestId: string, limitFields: RawHeaders): string[] {
  const [name = '', value = '', secondName = '', secondValue = ''] = limitFields
  // The usual number, in a list that need not grow.
  if (limitFields.length === 4) return ['X-Request-Id', requestId, name, value, secondName, secondValue]
  return ['X-Request-Id', requestId, ...limitFields]
}

/** Trailers of a request or an answer, without those that must not come behind a body. */
export function buildTrailers(route: Route, rawTrailers: RawHeaders): string[] {
  const trailers: string[] = []
  for (let i = 0; i < rawTrailers.length; i += 2) {
    const name = rawTrailers[i] ?? ''
    const lower = name.toLowerCase()
    const dashed = toDashed(lower)
    if (NEVER_IN_TRAILERS.has(dashed) || isOwnField(dashed) || isOriginField(dashed)) continue
    if (route.requestFields.drops.has(lower) || route.responseFields.drops.has(lower)) continue
    trailers.push(name, rawTrailers[i + 1] ?? '')
  }
  return trailers
}

/** The client's `X-Request-Id` where there is one and it may be kept; else the caller makes one. */
export function findRequestId(rawHeaders: RawHeaders): string | undefined {
  let found: string | undefined
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (!equalsIgnoreCase(rawHeaders[i] ?? '', 'x-request-id')) continue
    if (found !== undefined) return undefined
    found = rawHeaders[i + 1] ?? ''
  }
  return found !== undefined && isRequestId(found) ? found : undefined
}

/** The client's `traceparent`, where there is exactly one and it is sound (W3C Trace Context); else `''`. */
export function findTraceparent(rawHeaders: RawHeaders): string {
  let found: string | undefined
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (!equalsIgnoreCase(rawHeaders[i] ?? '', TRACEPARENT)) continue
    if (found !== undefined) return ''
    found = rawHeaders[i + 1] ?? ''
  }
  return found !== undefined && isTraceparent(found) ? found : ''
}

/** 1 to 128 of `[A-Za-z0-9._-]`: safe in logs, in JSON and in header fields. */
function isRequestId(text: string): boolean {
  if (text === '' || text.length > REQUEST_ID_LENGTH_MAX) return false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    const folded = code | 0x20
    const isAlphanumeric = (code >= 0x30 && code <= 0x39) || (folded >= 0x61 && folded <= 0x7a)
    if (!isAlphanumeric && code !== 0x2d && code !== 0x2e && code !== 0x5f) return false
  }
  return true
}

/** What `Connection` names, in lower case; mostly nothing but `close` or `keep-alive`. */
function listNominees(rawHeaders: RawHeaders): Set<string> | undefined {
  let nominees: Set<string> | undefined
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (!equalsIgnoreCase(rawHeaders[i] ?? '', 'connection')) continue
    const list = rawHeaders[i + 1] ?? ''
    if (equalsIgnoreCase(list, 'keep-alive') || equalsIgnoreCase(list, 'close')) continue
    nominees ??= new Set()
    for (let start = 0; start <= list.length; ) {
      const end = findComma(list, start)
      nominees.add(trimBlanks(list, start, end).toLowerCase())
      start = end + 1
    }
  }
  return nominees
}

function appendTo(list: string, item: string): string {
  return list === '' ? item : `${list}, ${item}`
}

function addAll(headers: string[], more: RawHeaders): void {
  for (const part of more) headers.push(part)
}
