import type { Clock } from '../ports/runtime.ts'
import type { PooledTarget, Upstream } from './upstream-pool.ts'

/**
 * Where a request goes: by `balance`, to what is up and was not tried before; rather to what has a
 * free connection. One that is out gets a single request when its time is over, which shows
 * whether it is back, or earlier where nothing else is left. `undefined`: there is nothing to try.
 */
export function pickTarget(
  upstream: Upstream,
  tried: readonly PooledTarget[],
  clock: Clock,
): PooledTarget | undefined {
  const picked =
    upstream.balance === 'round_robin'
      ? takeTurn(upstream, tried, clock)
      : takeLighter(upstream, tried, clock)
  return picked ?? tryEarly(upstream, tried, clock)
}

/** In whole seconds, at least 1: when the first of the targets is due for a check or a trial. */
export function toRetryAfterSeconds(upstream: Upstream, nowMs: number): string {
  let outMsMin = upstream.circuit.outMs(nowMs)
  for (const { health } of upstream.targets) {
    const outMs = health.isDown ? upstream.checkIntervalMs : health.outMs(nowMs)
    if (outMs > 0 && (outMsMin === 0 || outMs < outMsMin)) outMsMin = outMs
  }
  return String(Math.max(1, Math.ceil(outMsMin / 1000)))
}

function takeTurn(
  upstream: Upstream,
  tried: readonly PooledTarget[],
  clock: Clock,
): PooledTarget | undefined {
  const { targets } = upstream
  const count = targets.length
  let busy: PooledTarget | undefined
  let at = upstream.turn
  for (let i = 0; i < count; i++) {
    if (at >= count) at = 0
    const candidate = targets[at++]
    if (candidate === undefined || isTried(tried, candidate)) continue
    const isFree = candidate.inFlight < candidate.inFlightMax
    if (!isFree) busy ??= candidate.health.isUp ? candidate : undefined
    else if (candidate.health.isUp || candidate.health.mayTry(clock.bucketMs())) {
      upstream.turn = at
      return candidate
    }
  }
  return busy
}

/**
 * The lighter of two, the one whose turn it is and one at random: nearly as even as comparing all,
 * and threads do not run in step.
 */
function takeLighter(
  upstream: Upstream,
  tried: readonly PooledTarget[],
  clock: Clock,
): PooledTarget | undefined {
  const { targets } = upstream
  const count = targets.length
  if (count < 2) return takeTurn(upstream, tried, clock)
  const one = upstream.turn % count
  upstream.turn = one + 1
  const step = 1 + Math.floor(Math.random() * (count - 1))
  const a = targets[one]
  const b = targets[(one + step) % count]
  if (a === undefined || b === undefined) return undefined
  if (a.health.isUp && b.health.isUp && tried.length === 0) return a.inFlight <= b.inFlight ? a : b
  for (const due of [a, b]) {
    if (!due.health.isUp && !isTried(tried, due) && due.health.mayTry(clock.bucketMs())) return due
  }
  return findLightest(targets, tried)
}

function findLightest(
  targets: readonly PooledTarget[],
  tried: readonly PooledTarget[],
): PooledTarget | undefined {
  let best: PooledTarget | undefined
  for (const candidate of targets) {
    if (!candidate.health.isUp || isTried(tried, candidate)) continue
    if (best === undefined || candidate.inFlight < best.inFlight) best = candidate
  }
  return best
}

function tryEarly(
  { targets }: Upstream,
  tried: readonly PooledTarget[],
  clock: Clock,
): PooledTarget | undefined {
  for (const candidate of targets) {
    if (!isTried(tried, candidate) && candidate.health.mayTry(clock.bucketMs(), true)) return candidate
  }
  return undefined
}

function isTried(tried: readonly PooledTarget[], target: PooledTarget): boolean {
  return tried.length > 0 && tried.includes(target)
}
