import { findComma, joinFields, type RawHeaders, trimBlanks } from '../raw-headers.ts'

/**
 * Directives of `Cache-Control` and its kin by lower-case name. Without an argument the value is
 * `''`; a number of seconds that is none is `'0'`, so that what it says to be fresh is stale.
 */
export type Directives = Map<string, string>

export interface AnswerDirectives {
  readonly directives: Directives
  /** In lower case: fields that must not be stored, as `private="…"` and `no-cache="…"` say. */
  readonly unstored: ReadonlySet<string>
  /** `Expires` counts beside them; not where `CDN-Cache-Control` speaks for this cache. */
  readonly usesExpires: boolean
}

const SECONDS_MAX = 2 ** 31
const WITH_SECONDS: ReadonlySet<string> = new Set([
  'max-age',
  's-maxage',
  'stale-while-revalidate',
  'stale-if-error',
  'min-fresh',
])
/** Of requests; others ask for nothing. */
const OF_REQUESTS: ReadonlySet<string> = new Set([
  'no-cache',
  'no-store',
  'max-age',
  'max-stale',
  'min-fresh',
  'only-if-cached',
])
const NO_FIELDS: ReadonlySet<string> = new Set()
const QUOTE = 0x22
const BACKSLASH = 0x5c
/** One member of a structured dictionary whose value is an integer, a token, a string or a boolean (RFC 9651). */
const MEMBER =
  /^([a-z*][a-z0-9_.*-]*)(?:=(-?\d{1,15}|[A-Za-z*][\w!#$%&'*+.^`|~:/-]*|"(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"|\?[01]))?(?:;.*)?$/

/** Of a request: `Cache-Control`, or else what `Pragma` says (RFC 9111 section 5.4). */
export function readRequestDirectives(cacheControl: string, pragma: string): Directives {
  if (cacheControl === '' && /(?:^|,)[ \t]*no-cache[ \t]*(?:,|$)/i.test(pragma))
    return new Map([['no-cache', '']])
  const directives = parseDirectives(cacheControl)
  for (const name of directives.keys()) if (!OF_REQUESTS.has(name)) directives.delete(name)
  return directives
}

/** Of an answer: `CDN-Cache-Control` where it is there and sound (RFC 9213), else `Cache-Control`. */
export function readAnswerDirectives(rawHeaders: RawHeaders): AnswerDirectives {
  const targeted = parseTargeted(joinFields(rawHeaders, 'cdn-cache-control'))
  if (targeted !== undefined) return { directives: targeted, unstored: NO_FIELDS, usesExpires: false }
  const directives = parseDirectives(joinFields(rawHeaders, 'cache-control'))
  return { directives, unstored: takeQualified(directives), usesExpires: true }
}

/** Seconds of a directive; `undefined` where it is not there. */
export function secondsOf(directives: Directives, name: string): number | undefined {
  const text = directives.get(name)
  return text === undefined ? undefined : Math.min(Number(text), SECONDS_MAX)
}

/** As `Cache-Control` for readers that know nothing of its finer points. */
export function formatDirectives(directives: Directives): string {
  return [...directives].map(([name, value]) => (value === '' ? name : `${name}=${value}`)).join(', ')
}

function parseDirectives(list: string): Directives {
  const directives: Directives = new Map()
  for (let start = 0; start < list.length; ) {
    const end = findItemEnd(list, start)
    addDirective(directives, trimBlanks(list, start, end))
    start = end + 1
  }
  return directives
}

function addDirective(directives: Directives, item: string): void {
  if (item === '') return
  const equals = item.indexOf('=')
  const name = (equals < 0 ? item : item.slice(0, equals)).toLowerCase()
  const value = equals < 0 ? '' : unquote(item.slice(equals + 1))
  if (!WITH_SECONDS.has(name)) {
    const before = directives.get(name)
    // The form without fields is the stricter one.
    directives.set(
      name,
      before === undefined ? value : before === '' || value === '' ? '' : `${before},${value}`,
    )
    return
  }
  const seconds = /^\d+$/.test(value) ? value : '0'
  const before = directives.get(name)
  if (before === undefined || Number(seconds) < Number(before)) directives.set(name, seconds)
}

/** The next comma outside of quotes. */
function findItemEnd(list: string, start: number): number {
  const comma = findComma(list, start)
  const quote = list.indexOf('"', start)
  if (quote < 0 || quote > comma) return comma
  let at = quote + 1
  while (at < list.length && list.charCodeAt(at) !== QUOTE) at += list.charCodeAt(at) === BACKSLASH ? 2 : 1
  return findItemEnd(list, Math.min(at + 1, list.length))
}

function unquote(value: string): string {
  return value.length > 1 && value.startsWith('"') && value.endsWith('"')
    ? value.slice(1, -1).replace(/\\(.)/g, '$1')
    : value
}

/** Takes `private` and `no-cache` with fields out; gives those fields. */
function takeQualified(directives: Directives): ReadonlySet<string> {
  const fields = new Set<string>()
  for (const name of ['private', 'no-cache']) {
    const value = directives.get(name)
    if (value === undefined || value === '') continue
    directives.delete(name)
    for (const field of value.split(',')) fields.add(trimBlanks(field).toLowerCase())
  }
  return fields
}

/** `undefined` where it is empty or no structured dictionary, and then to be ignored. */
function parseTargeted(list: string): Directives | undefined {
  if (trimBlanks(list) === '') return undefined
  const directives: Directives = new Map()
  for (let start = 0; start <= list.length; ) {
    const end = findItemEnd(list, start)
    const [member, name, value] = MEMBER.exec(trimBlanks(list, start, end)) ?? []
    if (member === undefined || name === undefined) return undefined
    if (value === '?0') directives.delete(name)
    else if (WITH_SECONDS.has(name)) directives.set(name, /^\d+$/.test(value ?? '') ? (value ?? '') : '0')
    else directives.set(name, '')
    start = end + 1
  }
  return directives
}
