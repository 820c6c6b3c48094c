import { GATEWAY_ERRORS, type GatewayErrorCode } from '../../domain/errors.ts'
import type { RawFields, UpstreamFailure } from '../../ports/transport.ts'
import type { CacheOutcome, Exchange } from '../exchange.ts'
import { forward } from '../forward.ts'
import { noteAnswer } from '../outcomes.ts'
import { joinFields } from '../raw-headers.ts'
import type { CacheRequest } from './cache-request.ts'
import { type Draft, openDraft } from './draft.ts'
import { type Entry, hasValidator, isServable, mayServeOnError } from './entry.ts'
import type { Flight, FlightEnd } from './flights.ts'
import { giveEntry, shareTag } from './give.ts'
import { PassingUse, toClientFields } from './passing-use.ts'
import { keepEntry, notePass } from './places.ts'
import type { CacheRules } from './rules.ts'
import { judgeAnswer, mergeFields, type Storable } from './storability.ts'
import type { ThreadCache } from './thread-cache.ts'

export interface FillOptions {
  readonly exchange: Exchange
  readonly rules: CacheRules
  readonly request: CacheRequest
  /** Where the answer will lie, as far as is known. */
  readonly key: string
  /** What is stored and must be asked about. */
  readonly stale: Entry | undefined
  /** Those who wait; none where the request goes on its own account. */
  readonly flight: Flight | undefined
  /** Why it is forwarded, for `Cache-Status`. */
  readonly reason: 'uri-miss' | 'vary-miss' | 'stale' | 'request'
  /** Nobody waits for the answer itself. */
  readonly isBackground: boolean
}

const ERROR_STATUSES: ReadonlySet<number> = new Set([500, 502, 503, 504])

/** Fetches an answer: passes it on to the client, and stores it where it may be. */
export class Fill extends PassingUse {
  readonly #options: FillOptions
  readonly #cache: ThreadCache
  readonly #sentAtMs: number
  readonly #since: bigint
  readonly #farSince: number
  #stale: Entry | undefined
  #draft: Draft | undefined
  /** Fields of the 304 that confirms what is stored. */
  #confirmation: RawFields | undefined
  #isDone = false

  constructor(options: FillOptions) {
    super(options.exchange)
    this.#options = options
    this.#cache = options.exchange.deps.cache
    // Before anything is sent: a purge from here on makes the answer unfit.
    this.#since = this.#cache.counters.sequence()
    this.#farSince = this.#cache.counters.farSequence
    this.#sentAtMs = this.#cache.nowMs()
    this.#stale = options.stale
    if (this.#stale !== undefined && hasValidator(this.#stale)) {
      this.rawHeaders = toConditional(this.rawHeaders, this.#stale)
    }
  }

  override onAnswerHead(status: number, fields: RawFields): void {
    if (this.#stale !== undefined && status === 304 && hasValidator(this.#stale)) {
      noteAnswer(this.exchange, status)
      this.#confirmation = fields
      return
    }
    if (ERROR_STATUSES.has(status) && this.#giveStale(`fwd=stale; fwd-status=${status}`)) {
      noteAnswer(this.exchange, status)
      return
    }
    const { rules, key, reason } = this.#options
    const storable = this.#judge(status, fields)
    this.#draft = storable && openDraft(storable, fields, this.#cache.store, rules.entryBytesMax)
    if (this.#draft === undefined) {
      if (status < 500 && status !== 304) this.#cache.store.delete(key)
      this.#settle('unstorable')
    }
    const stored = this.#draft === undefined ? '' : '; stored'
    const { stale } = this.#options
    this.#count(stale !== undefined && hasValidator(stale) ? 'revalidated' : 'miss')
    this.exchange.onAnswerHead(status, toClientFields(fields, `fwd=${reason}; fwd-status=${status}${stored}`))
  }

  override onAnswerChunk(chunk: Uint8Array): void {
    if (this.#confirmation !== undefined) return
    if (this.#draft?.add(chunk) === false) {
      this.#draft = undefined
      this.#settle('unstorable')
    }
    this.exchange.onAnswerChunk(chunk)
  }

  override onAnswerEnd(trailers: RawFields): void {
    if (this.#confirmation !== undefined) {
      this.#confirm(this.#confirmation)
      return
    }
    const draft = this.#draft
    const entry = draft?.complete()
    this.#draft = undefined
    // An answer with trailers would be another one without them.
    if (draft !== undefined && entry !== undefined && trailers.length === 0)
      this.#keep(draft.varyNames, entry)
    else this.#settle('unstorable')
    this.exchange.onAnswerEnd(trailers)
  }

  override onUpstreamFailure(failure: UpstreamFailure): void {
    this.#dropDraft()
    this.#confirmation = undefined
    this.exchange.onUpstreamFailure(failure)
  }

  override rescue(code: GatewayErrorCode): boolean {
    this.#dropDraft()
    if (GATEWAY_ERRORS[code].owner !== 'upstream') return false
    if (this.#giveStale('fwd=stale')) return true
    this.#settle('failed')
    return false
  }

  override finish(): void {
    this.#dropDraft()
    this.#settle('abandoned')
  }

  #judge(status: number, rawHeaders: RawFields): Storable | undefined {
    const { exchange, rules, request } = this.#options
    return judgeAnswer({
      exchange,
      rules,
      request,
      status,
      rawHeaders,
      sentAtMs: this.#sentAtMs,
      since: this.#since,
      farSince: this.#farSince,
    })
  }

  #keep(varyNames: readonly string[], entry: Entry): void {
    const stored = keepEntry(this.#cache, this.exchange, this.#options.request, varyNames, entry)
    if (this.#options.flight !== undefined) this.#options.flight.stored = stored
    this.#settle('stored')
  }

  /** The upstream has said that what is stored still holds. */
  #confirm(fields: RawFields): void {
    const { exchange, request, key } = this.#options
    const stale = this.#stale
    if (stale === undefined) return
    exchange.leaveUpstream()
    const etag = joinFields(fields, 'etag')
    if (etag !== '' && stale.etag !== '' && !shareTag(etag, joinFields(stale.rawHeaders, 'etag'))) {
      this.#fetchAnew()
      return
    }
    const rawHeaders = mergeFields(stale.rawHeaders, fields)
    const storable = this.#judge(stale.status, rawHeaders)
    const length = String(stale.body.length)
    const confirmed: Entry = {
      ...stale,
      ...storable?.entry,
      rawHeaders: [
        ...(storable?.entry.rawHeaders ?? rawHeaders),
        ...(storable ? ['Content-Length', length] : []),
      ],
      // The tags of the answer itself are not among its stored fields.
      marks: [...new Set([...stale.marks, ...(storable?.entry.marks ?? [])])],
      body: stale.body,
    }
    if (storable === undefined) {
      this.#cache.store.delete(key)
      this.#settle('unstorable')
    } else {
      this.#keep(storable.varyNames, confirmed)
    }
    if (this.#options.isBackground) {
      exchange.finish()
      return
    }
    giveEntry(exchange, request, confirmed, {
      outcome: 'revalidated',
      status: `fwd=stale; fwd-status=304${storable === undefined ? '' : '; stored'}`,
    })
  }

  /** The 304 was about another answer than the stored one. */
  #fetchAnew(): void {
    this.#cache.store.delete(this.#options.key)
    this.#stale = undefined
    this.#confirmation = undefined
    this.rawHeaders = withoutConditions(this.exchange.client.rawHeaders)
    forward(this.exchange)
  }

  #giveStale(status: string): boolean {
    const { exchange, request, isBackground } = this.#options
    const stale = this.#stale
    const nowMs = this.#cache.nowMs()
    if (stale === undefined || isBackground || exchange.isOver || exchange.isAnswerBegun) return false
    if (!mayServeOnError(stale, nowMs) || !isServable(stale, this.#cache.counters, nowMs)) return false
    exchange.abandonUpstream()
    this.#settle('failed')
    giveEntry(exchange, request, stale, { outcome: 'stale', status })
    return true
  }

  #dropDraft(): void {
    this.#draft?.drop()
    this.#draft = undefined
  }

  #settle(end: FlightEnd): void {
    if (this.#isDone) return
    this.#isDone = true
    const { flight, key } = this.#options
    if (flight === undefined) return
    if (end === 'unstorable') notePass(this.#cache, key)
    this.#cache.flights.end(flight, end)
  }

  #count(outcome: CacheOutcome): void {
    if (!this.#options.isBackground) this.#cache.figures.add(outcome, 1)
    this.exchange.cacheOutcome = outcome
  }
}

/** Asks whether the stored answer still holds, instead of what the client wanted to know. */
function toConditional(rawHeaders: RawFields, { etag, lastModified }: Entry): RawFields {
  const fields = withoutConditions(rawHeaders)
  if (etag !== '') fields.push('If-None-Match', etag)
  if (lastModified !== '') fields.push('If-Modified-Since', lastModified)
  return fields
}

export function withoutConditions(rawHeaders: RawFields): string[] {
  return rawHeaders.filter((_, index) => {
    const lower = (rawHeaders[index & ~1] ?? '').toLowerCase()
    return lower !== 'if-none-match' && lower !== 'if-modified-since'
  })
}
