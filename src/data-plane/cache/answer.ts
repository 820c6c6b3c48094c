import type { Exchange } from '../exchange.ts'
import { forward } from '../forward.ts'
import { refuse } from '../relay.ts'
import { Bypass } from './bypass.ts'
import { type CacheRequest, readCacheRequest } from './cache-request.ts'
import { claimFlight } from './claim-flight.ts'
import { type Entry, hasValidator, mayServeOnError } from './entry.ts'
import { Fill } from './fill.ts'
import type { Flight } from './flights.ts'
import { judgeStored } from './freshness.ts'
import { giveEntry } from './give.ts'
import { findPlace, isPassed, type Place } from './places.ts'
import { refresh } from './refresh.ts'
import { type CacheRules, isSafe } from './rules.ts'
import { Asking, Waiting } from './waiting.ts'

/** How often a request waits for others before it goes on its own account. */
const ROUNDS_MAX = 3

/** One request on its way through the cache. */
interface Attempt {
  readonly exchange: Exchange
  readonly rules: CacheRules
  readonly request: CacheRequest
  readonly round: number
  /** Somebody fetched the answer while this one waited. */
  readonly hasWaited: boolean
}

/** What the request costs, by what the cache would do with it at this moment. */
export function priceOf(exchange: Exchange): number {
  const { route } = exchange
  const rules = route?.cache
  if (route === undefined || rules === undefined || route.isOpen || exchange.degraded === 'allow') return 0
  if (rules.hitCost === route.cost) return route.cost
  return isHit(exchange, rules) ? rules.hitCost : route.cost
}

function isHit(exchange: Exchange, rules: CacheRules): boolean {
  if (!rules.methods.has(exchange.method)) return false
  const request = readCacheRequest(exchange, rules)
  if (request === undefined) return false
  const { cache } = exchange.deps
  const { entry } = findPlace(cache, exchange, request)
  return entry !== undefined && judgeStored(entry, request.directives, cache.nowMs()) !== 'validate'
}

/**
 * Brings what another thread or node has stored before the request pays for a miss, then goes on.
 * `false`, and nothing comes, where it need not or cannot be looked for.
 */
export function bringNear(exchange: Exchange, goOn: () => void): boolean {
  const rules = exchange.route?.cache
  const { cache } = exchange.deps
  if (rules === undefined || exchange.dueCost <= rules.hitCost || !rules.methods.has(exchange.method)) {
    return false
  }
  const request = readCacheRequest(exchange, rules)
  return request !== undefined && !request.directives.has('no-cache') && look(request)

  function look(wanted: CacheRequest): boolean {
    const { key, entry } = findPlace(cache, exchange, wanted)
    if (cache.far === undefined || cache.flights.find(key) !== undefined || isPassed(cache, key)) return false
    return cache.far.look(key, entry?.bornMs ?? Number.NEGATIVE_INFINITY, (item) => {
      if (exchange.isOver) return
      // By what the answer varies was not known here, and so not where it lies.
      const isElsewhere = item?.kind === 'vary' && findPlace(cache, exchange, wanted).key !== key
      if (!isElsewhere || !look(wanted)) goOn()
    })
  }
}

/** Answers an exchange that may be answered, from the cache or by forwarding it. */
export function answerFromCache(exchange: Exchange): void {
  const rules = exchange.route?.cache
  if (rules === undefined) return
  if (!rules.methods.has(exchange.method)) {
    const isWatched = rules.methods.size > 0 || !isSafe(exchange.method)
    if (isWatched) exchange.cacheUse = new Bypass(exchange, rules.methods.size > 0 ? 'fwd=method' : '')
    forward(exchange)
    return
  }
  const request = readCacheRequest(exchange, rules)
  if (request === undefined || exchange.deps.cache.nowMs() >= exchange.deps.cache.counters.leaseEndMs) {
    bypass(exchange)
  } else {
    attempt({ exchange, rules, request, round: 0, hasWaited: false })
  }
}

function bypass(exchange: Exchange): void {
  exchange.deps.cache.figures.add('bypass', 1)
  exchange.cacheOutcome = 'bypass'
  exchange.cacheUse = new Bypass(exchange, 'fwd=bypass')
  forward(exchange)
}

function attempt(current: Attempt): void {
  const { exchange, rules, request, hasWaited } = current
  const { cache } = exchange.deps
  const nowMs = cache.nowMs()
  const place = findPlace(cache, exchange, request)
  const { entry } = place
  if (entry !== undefined) {
    const verdict = judgeStored(entry, request.directives, nowMs)
    if (verdict !== 'validate') {
      if (verdict === 'refresh') refresh({ exchange, rules, request, key: place.key, stale: entry })
      const outcome = verdict === 'give' ? (hasWaited ? 'collapsed' : 'hit') : 'stale'
      giveEntry(exchange, request, entry, { outcome, status: hasWaited ? 'fwd=miss; collapsed' : 'hit' })
      return
    }
  }
  if (request.directives.has('only-if-cached')) {
    refuse(exchange, 'not_cached')
  } else if (exchange.method === 'HEAD') {
    exchange.cacheOutcome = 'miss'
    cache.figures.add('miss', 1)
    exchange.cacheUse = new Bypass(exchange, `fwd=${toReason(place, request)}`)
    forward(exchange)
  } else {
    fetch(current, place)
  }
}

/** Waits for those who fetch the same already, or goes itself. */
function fetch(current: Attempt, place: Place): void {
  const { exchange, request, round } = current
  const { cache } = exchange.deps
  const { key } = place
  if (round >= ROUNDS_MAX || isSingular(request, place.entry) || isPassed(cache, key)) {
    send(current, place, undefined)
    return
  }
  const flight = cache.flights.find(key)
  if (flight === undefined) {
    lead(current, place)
    return
  }
  const waiting = new Waiting(exchange, flight, (end) => {
    if (end === 'stored' || end === 'abandoned') attempt({ ...current, round: round + 1, hasWaited: true })
    else if (end === 'failed') afterFailure(current)
    else send(current, findPlace(cache, exchange, request), undefined)
  })
  exchange.cacheUse = waiting
  if (!cache.flights.join(flight, waiting)) {
    waiting.finish()
    send(current, place, undefined)
  }
}

/** Goes for those who come after it as well, unless another thread or node has the answer. */
function lead(current: Attempt, place: Place): void {
  const { exchange, round } = current
  const { flights, far } = exchange.deps.cache
  const flight = flights.begin(place.key)
  const asking = new Asking(exchange, flight)
  const isAsked = claimFlight(far, flight, place.entry, (isFound, isAwaited) => {
    if (exchange.isOver || exchange.isAnswerBegun) return flights.end(flight, 'abandoned')
    exchange.cacheUse = undefined
    if (!isFound) return send(current, place, flight)
    flights.end(flight, 'stored')
    attempt({ ...current, round: round + 1, hasWaited: current.hasWaited || isAwaited })
  })
  if (isAsked) exchange.cacheUse = asking
  else send(current, place, flight)
}

function send({ exchange, rules, request }: Attempt, place: Place, flight: Flight | undefined): void {
  exchange.cacheUse = new Fill({
    exchange,
    rules,
    request,
    key: place.key,
    stale: place.entry,
    flight,
    reason: toReason(place, request),
    isBackground: false,
  })
  forward(exchange)
}

/** The upstream has just failed for somebody else. */
function afterFailure(current: Attempt): void {
  const { exchange, request } = current
  const { cache } = exchange.deps
  const place = findPlace(cache, exchange, request)
  if (place.entry !== undefined && mayServeOnError(place.entry, cache.nowMs())) {
    giveEntry(exchange, request, place.entry, { outcome: 'stale', status: 'fwd=stale; collapsed' })
  } else {
    send(current, place, undefined)
  }
}

/** Its answer may not be one for others: it has wishes of its own. */
function isSingular(request: CacheRequest, stale: Entry | undefined): boolean {
  if (request.directives.size > 0) return true
  const isConditional = request.ifNoneMatch !== '' || request.ifModifiedSince !== ''
  return isConditional && (stale === undefined || !hasValidator(stale))
}

function toReason(place: Place, request: CacheRequest): 'uri-miss' | 'vary-miss' | 'stale' | 'request' {
  if (place.entry !== undefined) return request.directives.size > 0 ? 'request' : 'stale'
  return place.isVaried ? 'vary-miss' : 'uri-miss'
}
