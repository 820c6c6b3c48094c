import { Buffer } from 'node:buffer'
import { decodePercent } from './percent.ts'
import { equalsIgnoreCase, type RawHeaders, startsWithIgnoreCase, trimBlanks } from './raw-headers.ts'
import type { Route, TokenField } from './route.ts'

/** What a client presented in the places where its route looks. */
export type Credential =
  /** `token` is a byte string (latin1): one character for each byte that the client sent. */
  | { readonly kind: 'token'; readonly token: string }
  | { readonly kind: 'missing' }
  /** One field holds two different values, so that nobody can say which of them counts. */
  | { readonly kind: 'conflict' }

const MISSING: Credential = { kind: 'missing' }
const CONFLICT: Credential = { kind: 'conflict' }

const SPACE = 0x20
const AMPERSAND = 0x26
const SEMICOLON = 0x3b
const EQUALS = 0x3d

/**
 * The first token in the order of the route's places: header fields as configured, then the query
 * parameter, then the cookie. A conflict in any of them wins over a token in another. `query` is
 * what follows the `?`. Always missing on open routes.
 */
export function extractCredential(route: Route, rawHeaders: RawHeaders, query: string): Credential {
  if (route.isOpen) return MISSING
  const { fields, query: parameter, cookie } = route.token
  let token = ''
  for (const field of fields) {
    const value = readField(rawHeaders, field.name)
    if (value === undefined) return CONFLICT
    if (token === '' && value !== '') token = toToken(field, value)
  }
  if (parameter !== '' && query !== '') {
    const value = readParameter(query, parameter)
    if (value === undefined) return CONFLICT
    if (token === '') token = value
  }
  if (cookie !== '') {
    const value = readCookie(rawHeaders, cookie)
    if (value === undefined) return CONFLICT
    if (token === '') token = value
  }
  return token === '' ? MISSING : { kind: 'token', token }
}

/** The one value of a field; `''` where it is not there, `undefined` where two lines differ. */
function readField(rawHeaders: RawHeaders, lowerName: string): string | undefined {
  let found: string | undefined
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (!equalsIgnoreCase(rawHeaders[i] ?? '', lowerName)) continue
    const value = trimBlanks(rawHeaders[i + 1] ?? '')
    if (found !== undefined && found !== value) return undefined
    found = value
  }
  return found ?? ''
}

function toToken(field: TokenField, value: string): string {
  switch (field.scheme) {
    case 'raw':
      return value
    case 'bearer':
      return readScheme(value, 'bearer')
    case 'basic':
      return readBasic(readScheme(value, 'basic'))
  }
}

/** What follows the scheme and one or more spaces; `''` where it is another scheme. */
function readScheme(value: string, lowerScheme: string): string {
  if (!startsWithIgnoreCase(value, lowerScheme)) return ''
  if (value.charCodeAt(lowerScheme.length) !== SPACE) return ''
  return trimBlanks(value, lowerScheme.length)
}

/** The password of a Basic credential, or its user name where there is no password. */
function readBasic(encoded: string): string {
  const pair = Buffer.from(encoded, 'base64').toString('latin1')
  const colon = pair.indexOf(':')
  if (colon < 0) return ''
  return colon + 1 < pair.length ? pair.slice(colon + 1) : pair.slice(0, colon)
}

function readParameter(query: string, name: string): string | undefined {
  let found: string | undefined
  for (let start = 0; start <= query.length; ) {
    const end = findEnd(query, start, AMPERSAND)
    const value = readPair(query, start, end, name)
    if (value !== undefined && found !== undefined && value !== found) return undefined
    found ??= value
    start = end + 1
  }
  return found ?? ''
}

/** The decoded value of a parameter if it has that name; a name may be encoded too. */
function readPair(query: string, start: number, end: number, name: string): string | undefined {
  const nameEnd = findEnd(query, start, EQUALS, end)
  if (decodePercent(query.slice(start, nameEnd)) !== name) return undefined
  return decodePercent(query.slice(Math.min(nameEnd + 1, end), end))
}

function readCookie(rawHeaders: RawHeaders, name: string): string | undefined {
  let found: string | undefined
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (!equalsIgnoreCase(rawHeaders[i] ?? '', 'cookie')) continue
    const line = rawHeaders[i + 1] ?? ''
    for (let start = 0; start <= line.length; ) {
      const end = findEnd(line, start, SEMICOLON)
      const value = readCookiePair(line, start, end, name)
      if (value !== undefined && found !== undefined && value !== found) return undefined
      found ??= value
      start = end + 1
    }
  }
  return found ?? ''
}

function readCookiePair(line: string, start: number, end: number, name: string): string | undefined {
  if (!isCookieNamed(line, start, end, name)) return undefined
  return trimBlanks(line, Math.min(findEnd(line, start, EQUALS, end) + 1, end), end)
}

/**
 * A query without the parameters of that name; every other byte stays. `undefined` where nothing
 * is left, so that the `?` goes too.
 */
export function removeParameter(query: string, name: string): string | undefined {
  let kept: string | undefined
  for (let start = 0; start <= query.length; ) {
    const end = findEnd(query, start, AMPERSAND)
    if (readPair(query, start, end, name) === undefined) {
      const pair = query.slice(start, end)
      kept = kept === undefined ? pair : `${kept}&${pair}`
    }
    start = end + 1
  }
  return kept
}

/** One line of `Cookie` without the cookies of that name; `''` where nothing is left. */
export function removeCookie(line: string, name: string): string {
  if (!line.includes(name)) return line
  let kept = ''
  for (let start = 0; start <= line.length; ) {
    const end = findEnd(line, start, SEMICOLON)
    if (!isCookieNamed(line, start, end, name)) {
      const pair = line.slice(start, end)
      kept = kept === '' ? trimBlanks(pair) : `${kept};${pair}`
    }
    start = end + 1
  }
  return kept
}

/** A name without `=` counts too, as a cookie without a value. */
function isCookieNamed(line: string, start: number, end: number, name: string): boolean {
  return trimBlanks(line, start, findEnd(line, start, EQUALS, end)) === name
}

/** Index of the next separator from `start`, or `max`. */
function findEnd(text: string, start: number, separator: number, max = text.length): number {
  let end = start
  while (end < max && text.charCodeAt(end) !== separator) end++
  return end
}
