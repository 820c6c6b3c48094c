import CachePolicy from 'http-cache-semantics'
import type { ExchangeState } from '../exchange.ts'
import { HOP_BY_HOP } from '../field-names.ts'
import { equalsIgnoreCase, findField, joinFields, type RawHeaders, trimBlanks } from '../raw-headers.ts'
import { type AnswerDirectives, formatDirectives, readAnswerDirectives, secondsOf } from './cache-control.ts'
import { type CacheRequest, readVaryNames } from './cache-request.ts'
import type { Entry } from './entry.ts'
import type { CacheRules } from './rules.ts'
import { listMarks, TAG_FIELDS } from './tags.ts'

/** An answer that may be stored, but for its body. */
export interface Storable {
  readonly varyNames: readonly string[]
  readonly entry: Omit<Entry, 'body'>
}

export interface Fetched {
  readonly exchange: ExchangeState
  readonly rules: CacheRules
  readonly request: CacheRequest
  readonly status: number
  readonly rawHeaders: RawHeaders
  /** When the request was sent, on the clock of buckets. */
  readonly sentAtMs: number
  readonly since: bigint
  readonly farSince: number
}

/** Statuses that a route's own `ttl` makes cacheable. */
const TTL_STATUSES: ReadonlySet<number> = new Set([200, 203, 300, 301, 308])
/** What the library knows; other final statuses are cacheable where they say so themselves. */
const KNOWN_STATUSES: ReadonlySet<number> = new Set([
  200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501,
])
/** In seconds; nothing is fresh for longer. */
const AGE_MAX = 2 ** 31
/** Stands for them: cacheable with an explicit lifetime, never without. */
const EXPLICIT_ONLY = 302
const UNSTORED_FIELDS: ReadonlySet<string> = new Set([
  ...HOP_BY_HOP,
  ...TAG_FIELDS,
  'age',
  'content-length',
  'trailer',
])

/** What of an answer may be stored, by RFC 9111 section 3 as a shared cache; `undefined` for nothing. */
export function judgeAnswer(fetched: Fetched): Storable | undefined {
  const { exchange, rules, request, status, rawHeaders } = fetched
  if (status === 206 || status === 304 || status < 200) return undefined
  const varyNames = readVaryNames(rawHeaders)
  if (varyNames === undefined) return undefined
  const said = readAnswerDirectives(rawHeaders)
  if (findField(rawHeaders, 'set-cookie') !== undefined && !said.unstored.has('set-cookie')) return undefined
  const isStrict = ['must-revalidate', 'proxy-revalidate', 'no-cache'].some((name) =>
    said.directives.has(name),
  )
  const isExplicit = hasLifetime(said, rawHeaders)
  if (said.directives.has('must-understand')) {
    if (!KNOWN_STATUSES.has(status)) return undefined
    said.directives.delete('no-store')
  }
  addOwnLifetime(said, isExplicit, status, rules)

  const policy = createPolicy(said, isExplicit, request, status, rawHeaders)
  if (!policy.storable()) return undefined
  const mustRevalidate = isStrict || (isExplicit && said.directives.has('s-maxage'))
  const entry = {
    kind: 'answer',
    status,
    rawHeaders: listStoredFields(rawHeaders, said.unstored),
    // The library counts the time that it needs itself; Age is in whole seconds.
    bornMs: fetched.sentAtMs - 1000 * Math.floor(policy.age()),
    lifetimeMs: 1000 * policy.maxAge(),
    mustRevalidate,
    staleWhileRevalidateMs: toStaleMs('stale-while-revalidate', rules.staleWhileRevalidateMs),
    staleIfErrorMs: toStaleMs('stale-if-error', rules.staleIfErrorMs),
    etag: findField(rawHeaders, 'etag') ?? '',
    lastModified: findField(rawHeaders, 'last-modified') ?? '',
    since: fetched.since,
    farSince: fetched.farSince,
  } as const
  if (!isOfUse(entry)) return undefined
  const marks = listMarks(exchange, rules, rawHeaders)
  return marks && { varyNames, entry: { ...entry, marks } }

  /** What the answer says counts even beside s-maxage; what the route says does not. */
  function toStaleMs(name: string, routeMs: number): number {
    if (isStrict) return 0
    const seconds = secondsOf(said.directives, name)
    return seconds === undefined ? (mustRevalidate ? 0 : routeMs) : seconds * 1000
  }
}

/** Fresh now, or of use later: to be validated, or to be given stale. */
function isOfUse(entry: Omit<Entry, 'body' | 'marks'>): boolean {
  const { lifetimeMs, staleWhileRevalidateMs, staleIfErrorMs, etag, lastModified } = entry
  return (
    lifetimeMs > 0 || staleWhileRevalidateMs > 0 || staleIfErrorMs > 0 || etag !== '' || lastModified !== ''
  )
}

function hasLifetime({ directives, usesExpires }: AnswerDirectives, rawHeaders: RawHeaders): boolean {
  return (
    directives.has('s-maxage') ||
    directives.has('max-age') ||
    (usesExpires && findField(rawHeaders, 'expires') !== undefined)
  )
}

/** The route's `ttl`, as if the upstream had said `s-maxage`. */
function addOwnLifetime(
  { directives }: AnswerDirectives,
  isExplicit: boolean,
  status: number,
  { ttlSeconds }: CacheRules,
): void {
  if (isExplicit || ttlSeconds === undefined || !TTL_STATUSES.has(status)) return
  if (!directives.has('no-cache')) directives.set('s-maxage', String(ttlSeconds))
}

/** The library decides; it gets the fields in the one form that it reads without doubt. */
function createPolicy(
  said: AnswerDirectives,
  isExplicit: boolean,
  request: CacheRequest,
  status: number,
  rawHeaders: RawHeaders,
): CachePolicy {
  const directives = new Map(said.directives)
  // To the library it means that nothing is ever fresh; it only says what holds after that.
  directives.delete('proxy-revalidate')
  const age = readAge(rawHeaders)
  const expires = said.usesExpires ? findField(rawHeaders, 'expires') : undefined
  const isKnown = KNOWN_STATUSES.has(status)
  return new CachePolicy(
    {
      method: 'GET',
      headers: {
        ...(request.isAuthorized ? { authorization: 'present' } : {}),
        ...(request.directives.has('no-store') ? { 'cache-control': 'no-store' } : {}),
      },
    },
    {
      status: isKnown ? status : isExplicit ? EXPLICIT_ONLY : 0,
      headers: {
        ...(directives.size > 0 ? { 'cache-control': formatDirectives(directives) } : {}),
        ...(expires === undefined ? {} : { expires }),
        ...(age === undefined ? {} : { age }),
        date: findField(rawHeaders, 'date'),
        pragma: joinFields(rawHeaders, 'pragma'),
      },
    },
    { shared: true, cacheHeuristic: 0, immutableMinTimeToLive: 0 },
  )
}

/** Of a list the first (RFC 9111 section 5.1), of lines the greatest; what is no number may stand for any age. */
function readAge(rawHeaders: RawHeaders): string | undefined {
  let age = -1
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (!equalsIgnoreCase(rawHeaders[i] ?? '', 'age')) continue
    age = Math.max(age, Number(/^\d+/.exec(trimBlanks(rawHeaders[i + 1] ?? ''))?.[0] ?? AGE_MAX))
  }
  return age < 0 ? undefined : String(Math.min(age, AGE_MAX))
}

function listStoredFields(rawHeaders: RawHeaders, unstored: ReadonlySet<string>): string[] {
  const nominees = new Set(
    joinFields(rawHeaders, 'connection')
      .split(',')
      .map((name) => trimBlanks(name).toLowerCase()),
  )
  const kept: string[] = []
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const lower = (rawHeaders[i] ?? '').toLowerCase()
    if (UNSTORED_FIELDS.has(lower) || unstored.has(lower) || nominees.has(lower)) continue
    kept.push(rawHeaders[i] ?? '', rawHeaders[i + 1] ?? '')
  }
  if (findField(rawHeaders, 'date') === undefined) kept.push('Date', new Date().toUTCString())
  return kept
}

/** Fields that tell of the body and stay with it, whatever a 304 says (RFC 9111 section 3.2). */
const BODY_FIELDS: ReadonlySet<string> = new Set([
  'content-encoding',
  'content-length',
  'content-md5',
  'content-range',
  // It is the same, or the stored answer is not the one that was confirmed.
  'etag',
  'transfer-encoding',
])

/** The fields of a stored answer with those of the 304 that confirmed it. */
export function mergeFields(stored: RawHeaders, confirming: RawHeaders): string[] {
  const replaced = new Set<string>()
  const merged: string[] = []
  for (let i = 0; i < confirming.length; i += 2) {
    const lower = (confirming[i] ?? '').toLowerCase()
    if (BODY_FIELDS.has(lower)) continue
    replaced.add(lower)
    merged.push(confirming[i] ?? '', confirming[i + 1] ?? '')
  }
  for (let i = 0; i < stored.length; i += 2) {
    if (!replaced.has((stored[i] ?? '').toLowerCase())) merged.push(stored[i] ?? '', stored[i + 1] ?? '')
  }
  return merged
}
