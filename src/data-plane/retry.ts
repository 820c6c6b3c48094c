import type { UpstreamFailure } from '../ports/transport.ts'
import type { Exchange } from './exchange.ts'

/**
 * Methods that may be sent a second time though the first may have been carried out: the safe ones.
 * PUT and DELETE may be repeated by those who know what they mean (RFC 9110 section 9.2.2), but
 * somebody else's change in between would be undone.
 */
const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS'])

/** Where the wait for an answer has no limit of its own, nothing is sent again after this. */
const PATIENCE_MS = 60_000

/**
 * What may follow a failed attempt. `move`: nothing of the request was sent, so another target may
 * have it. `repeat`: it was sent, but it is safe, has no body, nothing of an answer was passed on,
 * and the budget allows it; to the `same` target where a kept connection turned out dead, else to
 * another one. Nothing is begun when the time for one whole attempt has passed.
 */
export function findRetry(
  exchange: Exchange,
  failure: UpstreamFailure,
): 'move' | 'same' | 'other' | undefined {
  const { route, upstream, forwardedAt } = exchange
  if (route === undefined || upstream === undefined) return undefined
  const nowMs = performance.now()
  const { connectMs, responseMs } = route.timeouts
  if (nowMs - forwardedAt >= connectMs + (responseMs > 0 ? responseMs : PATIENCE_MS)) return undefined
  if (failure.isUnsent) return exchange.hasBodyStarted ? undefined : 'move'
  if (!mayRepeat(exchange) || exchange.repeats >= upstream.retryRule.max) return undefined
  const isSame = failure.isStale && exchange.repeats === 0
  if (!isSame && upstream.targets.length < 2) return undefined
  const isGranted = upstream.traffic.takeRetry(upstream.retryRule, nowMs)
  upstream.circuit.countRetry(!isGranted)
  if (!isGranted) return undefined
  return isSame ? 'same' : 'other'
}

function mayRepeat({ head, client, hasInformed }: Exchange): boolean {
  if (head === undefined || hasInformed || client.upgraded !== undefined) return false
  const hasBody = head.isChunked || head.contentLength > 0
  return !hasBody && SAFE_METHODS.has(head.method)
}
