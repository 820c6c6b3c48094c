import type { UpstreamFailure } from '../ports/transport.ts'
import type { Exchange } from './exchange.ts'
import type { PooledTarget, Upstream } from './upstream-pool.ts'

/*
 * What the fate of requests tells of their target and their upstream: a target that fails again and
 * again is left out for a while (ejection), an upstream that fails as a whole is spared (circuit).
 */

/** What is thrown because of the request itself tells nothing of the target, nor do its own errors. */
const REQUEST_FAULTS = /^(ERR_INVALID_|ERR_HTTP_|UND_ERR_INVALID_|UND_ERR_REQ_|UND_ERR_NOT_SUPPORTED)/

/** The head of a final answer has come. */
export function noteAnswer(exchange: Exchange, status: number): void {
  const { upstream, target } = exchange
  exchange.upstreamStatus = status
  if (upstream === undefined || target === undefined) return
  if (status >= 500 && upstream.ejection.counts5xx) {
    countFailure(exchange, upstream, target, { isUnreachable: false })
  } else if (!target.health.isSpotless && target.health.succeed()) {
    exchange.deps.logger.info('target is back', describe(upstream, target))
  }
  if (!upstream.circuit.isUp && upstream.circuit.succeed()) {
    exchange.deps.logger.info('circuit closed', { upstream: upstream.name })
  }
}

/** An attempt has failed before an answer. */
export function noteFailure(exchange: Exchange, failure: UpstreamFailure): void {
  const { upstream, target } = exchange
  if (upstream === undefined || target === undefined || !isTargetsFault(failure)) return
  countFailure(exchange, upstream, target, {
    isUnreachable: failure.kind === 'unreachable' && failure.isUnsent,
  })
}

/** The exchange as a whole has failed: no further attempt is made. */
export function noteLoss(exchange: Exchange, failure: UpstreamFailure): void {
  const { upstream, deps } = exchange
  if (upstream === undefined || !isTargetsFault(failure)) return
  const { traffic, circuit, circuitRule: rule } = upstream
  traffic.failures++
  if (rule.failures === 0) return
  const isOpening =
    traffic.failures >= rule.failures && traffic.failures * 100 >= rule.percent * traffic.requests
  if (!circuit.isOnTrial && !isOpening) return
  const forMs = circuit.eject(deps.clock.bucketMs(), rule.backoff, false)
  if (forMs > 0) deps.logger.warn('circuit opened', { upstream: upstream.name, for_ms: forMs })
}

function countFailure(
  { deps }: Exchange,
  upstream: Upstream,
  target: PooledTarget,
  { isUnreachable }: { readonly isUnreachable: boolean },
): void {
  const { health } = target
  const { ejection: rule } = upstream
  const failures = health.fail()
  if (rule.failures === 0) {
    health.restore()
    return
  }
  if (!health.isOnTrial && (failures < rule.failures || !mayBeOut(upstream, 1))) return
  const forMs = health.eject(deps.clock.bucketMs(), rule.backoff, isUnreachable)
  if (forMs === 0) return
  // Two threads at once may have gone too far together.
  if (mayBeOut(upstream, 0))
    deps.logger.warn('target ejected', { ...describe(upstream, target), failures, for_ms: forMs })
  else health.restore()
}

/** Whether the rule allows those that are out, and `more`: within its share, and never the last one. */
function mayBeOut({ targets, ejection }: Upstream, more: number): boolean {
  let out = more
  let up = -more
  for (const { health } of targets) {
    if (health.isOut) out++
    else if (health.isUp) up++
  }
  return up > 0 && out * 100 <= ejection.percentMax * targets.length
}

/** A kept connection that turned out dead may be the fault of nobody: targets restart, and tidy up. */
function isTargetsFault({ kind, isStale, cause }: UpstreamFailure): boolean {
  if (isStale || kind === 'overloaded' || cause instanceof RangeError || cause instanceof TypeError)
    return false
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  return typeof code !== 'string' || !REQUEST_FAULTS.test(code)
}

function describe(upstream: Upstream, target: PooledTarget) {
  const { position, address } = target
  return { upstream: upstream.name, target: position, host: target.target.host, address }
}
