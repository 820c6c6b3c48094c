import type { RawFields } from '../../ports/transport.ts'
import type { CacheOutcome, Exchange } from '../exchange.ts'
import { findField, type RawHeaders, trimBlanks } from '../raw-headers.ts'
import { beginAnswer, endAnswer } from '../relay.ts'
import type { CacheRequest } from './cache-request.ts'
import { ageMsOf, type Entry } from './entry.ts'
import { SilentUse } from './silent-use.ts'

const SLICE_BYTES = 64 * 1024
const BODILESS_STATUSES: ReadonlySet<number> = new Set([204, 304])
/** Of a body that a 304 does not have. */
const BODY_FIELDS: ReadonlySet<string> = new Set([
  'content-encoding',
  'content-language',
  'content-length',
  'content-range',
  'content-type',
])

/** Answers from a stored answer; `status` is what `Cache-Status` says of it (RFC 9211). */
export function giveEntry(
  exchange: Exchange,
  request: CacheRequest,
  entry: Entry,
  note: { readonly outcome: CacheOutcome; readonly status: string },
): void {
  const cache = exchange.deps.cache
  const ageMs = ageMsOf(entry, cache.nowMs())
  const ttl = Math.floor((entry.lifetimeMs - ageMs) / 1000)
  const isUnchanged = hasCurrent(request, entry)
  const fields: string[] = isUnchanged ? withoutBodyFields(entry.rawHeaders) : [...entry.rawHeaders]
  fields.push('Age', String(Math.floor(ageMs / 1000)), 'Cache-Status', `dripgate; ${note.status}; ttl=${ttl}`)
  cache.figures.add(note.outcome, 1)
  exchange.cacheOutcome = note.outcome
  const status = isUnchanged ? 304 : entry.status
  const hasBody = exchange.method !== 'HEAD' && !BODILESS_STATUSES.has(status)
  const giving = new Giving(exchange, hasBody ? entry.body : NO_BODY)
  exchange.cacheUse = giving
  beginAnswer(exchange, status, fields)
  if (exchange.status === status) giving.resume()
}

const NO_BODY = new Uint8Array()

/** A body on its way from the cache to the client, as fast as the client takes it. */
class Giving extends SilentUse {
  readonly #exchange: Exchange
  readonly #body: Uint8Array
  #offset = 0
  #isDone = false

  constructor(exchange: Exchange, body: Uint8Array) {
    super()
    this.#exchange = exchange
    this.#body = body
  }

  override resume(): void {
    if (this.#isDone) return
    const { client } = this.#exchange
    while (this.#offset < this.#body.length) {
      const slice = this.#body.subarray(this.#offset, this.#offset + SLICE_BYTES)
      this.#offset += slice.length
      this.#exchange.bytesOut += slice.length
      if (!client.sendChunk(slice) && this.#offset < this.#body.length) return
    }
    this.#isDone = true
    endAnswer(this.#exchange, NO_TRAILERS)
  }
}

const NO_TRAILERS: RawFields = []

/** Whether the client has this very answer already (RFC 9110 section 13.2.2). */
function hasCurrent(request: CacheRequest, entry: Entry): boolean {
  const { ifNoneMatch, ifModifiedSince } = request
  if (entry.status !== 200) return false
  if (ifNoneMatch !== '') return matchesTag(ifNoneMatch, entry.etag)
  if (ifModifiedSince === '') return false
  const changedAt = Date.parse(entry.lastModified || (findField(entry.rawHeaders, 'date') ?? ''))
  return changedAt <= Date.parse(ifModifiedSince)
}

function matchesTag(list: string, etag: string): boolean {
  if (trimBlanks(list) === '*') return true
  return etag !== '' && listTags(list).some((tag) => toOpaque(tag) === toOpaque(etag))
}

/** Whether two lists of entity tags have one in common. */
export function shareTag(one: string, other: string): boolean {
  return listTags(other).some((tag) => matchesTag(one, tag))
}

function listTags(list: string): readonly string[] {
  return list.match(/(?:W\/)?"[^"]*"/g) ?? []
}

/** For the weak comparison (RFC 9110 section 8.8.3.2). */
function toOpaque(etag: string): string {
  return etag.startsWith('W/') ? etag.slice(2) : etag
}

function withoutBodyFields(rawHeaders: RawHeaders): string[] {
  return rawHeaders.filter((_, index) => !BODY_FIELDS.has((rawHeaders[index & ~1] ?? '').toLowerCase()))
}
