import type { GatewayErrorCode } from '../domain/errors.ts'
import { parseHost } from './host.ts'
import { parseLength } from './http1/framing.ts'
import { equalsIgnoreCase, hasListItem, joinFields, type RawHeaders } from './raw-headers.ts'
import { parseTarget, type Target } from './request-target.ts'

/** A request head as a front received it. */
export interface ReceivedHead {
  readonly method: string
  /** The request target: origin form, absolute form or `*`. */
  readonly target: string
  readonly httpVersion: '1.0' | '1.1' | '2.0'
  readonly rawHeaders: RawHeaders
  /** What `readFramingFields` made of the fields, where that is known already. */
  readonly fields?: FramingFields
  /** A body follows though no field says so. */
  readonly hasUnmeasuredBody?: boolean
}

export interface HeadLimits {
  readonly headersMax: number
  readonly targetBytesMax: number
}

/** A head in which nothing is malformed and nothing can be read in two ways, but perhaps the path. */
export interface RequestHead {
  readonly kind: 'head'
  readonly method: string
  readonly httpVersion: '1.0' | '1.1' | '2.0'
  /** As received, up to the `?`; starts with `/`, but for `*`. */
  readonly path: string
  /** What follows the `?`. */
  readonly query: string
  readonly hasQuery: boolean
  /** The Host field as sent; `''` only in HTTP/1.0. */
  readonly host: string
  /** The host in lower case, without port and trailing dot. */
  readonly hostname: string
  /** -1 where no length is announced. */
  readonly contentLength: number
  /** There is a body whose length is not known. */
  readonly isChunked: boolean
  /** The client waits for `100 Continue` before it sends the body. */
  readonly expectsContinue: boolean
  /** The client asks to switch to WebSocket, properly. Other upgrades are not offered. */
  readonly isWebSocket: boolean
}

/** The request is refused and the connection closed. */
export interface HeadFault {
  readonly kind: 'fault'
  readonly code: GatewayErrorCode
  /** Value of the `Allow` field of a 405. */
  readonly allow: string | undefined
}

/** What the fields say that frame and route a request, collected in one pass. */
export interface FramingFields {
  /** Whether they may be believed. */
  isSound: boolean
  hosts: number
  host: string
  /** Of `host`; `undefined` where that is malformed. */
  hostname: string | undefined
  lengths: number
  contentLength: number
  encodings: number
  expectsContinue: boolean
  asksWebSocket: boolean
}

const BAD_REQUEST = toFault('bad_request')
const TARGET_TOO_LONG = toFault('uri_too_long')
const TOO_MANY_FIELDS = toFault('headers_too_large')
const METHOD_REFUSED = toFault('method_not_allowed', 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS')

/** Characters of names and methods (RFC 9110 section 5.6.2), by code. */
const TOKEN_CHARACTERS = listTokenCharacters()

/**
 * Checks everything that must hold before a request may be routed (RFC 9112, and what the contract
 * refuses beyond it). A front must have taken care of the size of the head already. HTTP/2 fronts
 * give `:authority` as `Host`.
 */
export function checkRequestHead(received: ReceivedHead, limits: HeadLimits): RequestHead | HeadFault {
  const { method, httpVersion, rawHeaders } = received
  if (received.target.length > limits.targetBytesMax) return TARGET_TOO_LONG
  if (rawHeaders.length / 2 > limits.headersMax) return TOO_MANY_FIELDS
  if (method === 'CONNECT' || method === 'TRACE') return METHOD_REFUSED
  if (!isToken(method)) return BAD_REQUEST

  const target = parseTarget(received.target, method)
  const fields = received.fields ?? readFramingFields(rawHeaders, false)
  if (target === undefined || !fields.isSound || !isFramed(fields, httpVersion)) return BAD_REQUEST

  const hostname = resolveHost(fields, target, httpVersion)
  if (hostname === undefined) return BAD_REQUEST
  const isWebSocket = fields.asksWebSocket && method === 'GET' && httpVersion === '1.1'
  // Bytes behind such a head would be body to one reader and WebSocket frames to another.
  if (isWebSocket && (fields.encodings > 0 || fields.contentLength > 0)) return BAD_REQUEST
  return {
    kind: 'head',
    method,
    httpVersion,
    path: target.path,
    query: target.query,
    hasQuery: target.hasQuery,
    host: fields.hosts === 0 ? target.authority : fields.host,
    hostname,
    contentLength: fields.contentLength,
    isChunked: fields.encodings > 0 || received.hasUnmeasuredBody === true,
    expectsContinue: fields.expectsContinue && httpVersion !== '1.0',
    isWebSocket,
  }
}

/**
 * Reads every field once. Anything wrong makes the result unsound. `isScreened`: names are known to
 * be tokens, and values to hold no control characters.
 */
export function readFramingFields(rawHeaders: RawHeaders, isScreened: boolean): FramingFields {
  const fields: FramingFields = {
    isSound: rawHeaders.length % 2 === 0,
    hosts: 0,
    host: '',
    hostname: undefined,
    lengths: 0,
    contentLength: -1,
    encodings: 0,
    expectsContinue: false,
    asksWebSocket: false,
  }
  let hasUpgrade = false
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? ''
    const value = rawHeaders[i + 1] ?? ''
    if (!isScreened && !(isToken(name) && isFieldValue(value))) fields.isSound = false
    if (!readField(fields, name, value)) fields.isSound = false
    if (name.length === 7 && equalsIgnoreCase(name, 'upgrade')) hasUpgrade = true
  }
  fields.hostname = parseHost(fields.host)
  fields.asksWebSocket = hasUpgrade && asksWebSocket(rawHeaders)
  return fields
}

/** `false` where the field cannot be accepted. */
function readField(fields: FramingFields, name: string, value: string): boolean {
  // By length first: most fields are none of these.
  switch (name.length) {
    case 4:
      if (!equalsIgnoreCase(name, 'host')) return true
      fields.host = value
      return ++fields.hosts === 1
    case 6:
      if (!equalsIgnoreCase(name, 'expect')) return true
      fields.expectsContinue = true
      return equalsIgnoreCase(value, '100-continue')
    case 14:
      if (!equalsIgnoreCase(name, 'content-length')) return true
      fields.contentLength = parseLength(value)
      return ++fields.lengths === 1 && fields.contentLength >= 0
    case 17:
      if (!equalsIgnoreCase(name, 'transfer-encoding')) return true
      return ++fields.encodings === 1 && equalsIgnoreCase(value, 'chunked')
    default:
      return true
  }
}

/** Whether it is beyond doubt where the message ends. */
function isFramed(fields: FramingFields, httpVersion: string): boolean {
  if (fields.encodings === 0) return true
  return fields.lengths === 0 && httpVersion === '1.1'
}

/** The host to route by; `undefined` where the request does not name exactly one. */
function resolveHost(fields: FramingFields, target: Target, httpVersion: string): string | undefined {
  if (fields.hosts === 0) {
    if (httpVersion !== '1.0') return undefined
    return target.authority === '' ? '' : parseHost(target.authority)
  }
  return isSameAuthority(target, fields.host) ? fields.hostname : undefined
}

/** Up to case and to the port that the scheme means anyway. */
function isSameAuthority({ authority, defaultPort }: Target, host: string): boolean {
  if (authority === '' || equalsIgnoreCase(authority, host.toLowerCase())) return true
  return withoutPort(authority.toLowerCase(), defaultPort) === withoutPort(host.toLowerCase(), defaultPort)
}

function withoutPort(authority: string, port: string): string {
  const suffix = `:${port}`
  // An address in brackets ends with its bracket, so that this is a port and no part of it.
  return authority.endsWith(suffix) ? authority.slice(0, -suffix.length) : authority
}

function asksWebSocket(rawHeaders: RawHeaders): boolean {
  return (
    equalsIgnoreCase(joinFields(rawHeaders, 'upgrade'), 'websocket') &&
    hasListItem(joinFields(rawHeaders, 'connection'), 'upgrade')
  )
}

function isToken(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    if (TOKEN_CHARACTERS[text.charCodeAt(i)] !== 1) return false
  }
  return text !== ''
}

/** No control characters but the tab. */
function isFieldValue(value: string): boolean {
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i)
    if ((code < 0x20 && code !== 0x09) || code === 0x7f || code > 0xff) return false
  }
  return true
}

function listTokenCharacters(): Uint8Array {
  const table = new Uint8Array(256)
  const characters = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
  for (const character of characters) table[character.charCodeAt(0)] = 1
  return table
}

function toFault(code: GatewayErrorCode, allow?: string): HeadFault {
  return { kind: 'fault', code, allow }
}
