import { performance } from 'node:perf_hooks'
import { withParentId } from '../domain/traceparent.ts'
import type { UpstreamFailure, UpstreamRequest } from '../ports/transport.ts'
import type { Exchange } from './exchange.ts'
import { buildForwardTarget } from './forward-target.ts'
import { buildSteadyFields, listFreshFields } from './headers.ts'
import { noteFailure, noteLoss } from './outcomes.ts'
import { pickTarget, toRetryAfterSeconds } from './pick-target.ts'
import { cut, refuse } from './relay.ts'
import type { RequestHead } from './request-check.ts'
import { findRetry } from './retry.ts'
import type { Route } from './route.ts'

const WARN_INTERVAL_MS = 1000

/** Sends the exchange to the next target of its route's upstream. */
export function forward(exchange: Exchange): void {
  const { route, head, plan } = exchange
  if (route === undefined || head === undefined) return
  if (head.contentLength > route.bodyBytesMax) {
    refuse(exchange, 'body_too_large')
    return
  }
  const upstream = plan.upstreams.find(route.upstream)
  const { clock } = exchange.deps
  if (upstream === undefined) {
    refuse(exchange, 'no_upstream', { retryAfter: '1' })
    return
  }
  exchange.upstream = upstream
  const isSpared = !upstream.circuit.isUp && !upstream.circuit.mayTry(clock.bucketMs())
  const picked = isSpared ? undefined : pickTarget(upstream, exchange.tried, clock)
  if (picked === undefined) {
    if (isSpared) upstream.traffic.failures = 0
    refuse(exchange, 'no_upstream', { retryAfter: toRetryAfterSeconds(upstream, clock.bucketMs()) })
    return
  }
  exchange.forwardedAt = performance.now()
  upstream.traffic.countRequest(exchange.forwardedAt)
  if (exchange.traceparent === '') exchange.beginTrace()
  if (plan.createSpanId !== undefined && exchange.spanId === '') exchange.spanId = plan.createSpanId()
  exchange.upstreamName = upstream.name
  exchange.upstreamId = upstream.id
  exchange.target = picked
  send(exchange, route, head)
}

function send(exchange: Exchange, route: Route, head: RequestHead): void {
  const { target: pooled, client } = exchange
  if (pooled === undefined) return
  const request = toUpstreamRequest(exchange, route, head, pooled.target.host)
  pooled.inFlight++
  if (client.upgraded === undefined) {
    exchange.stream = pooled.target.send(request, exchange.cacheUse ?? exchange)
  } else {
    exchange.tunnel = pooled.target.openTunnel(request, client.upgraded, exchange)
    exchange.stream = exchange.tunnel
  }
}

function toUpstreamRequest(
  exchange: Exchange,
  route: Route,
  head: RequestHead,
  upstreamHost: string,
): UpstreamRequest {
  const { kid, ksid, client } = exchange
  const rawHeaders = exchange.cacheUse?.rawHeaders ?? client.rawHeaders
  const input = {
    route,
    head,
    rawHeaders,
    client: exchange.address,
    protocol: client.protocol,
    requestId: exchange.requestId,
    traceparent: toUpstreamTraceparent(exchange),
    keepsTraceState: exchange.isTraceOfClient,
    kid: kid === '' ? undefined : kid,
    ksid: ksid === '' ? undefined : ksid,
    upstreamHost,
  }
  const isAsReceived = rawHeaders === client.rawHeaders
  return {
    method: head.method,
    target: buildForwardTarget(route, head),
    steady: isAsReceived
      ? exchange.facts.listSteadyFields(input)
      : { list: buildSteadyFields(input), encoded: undefined },
    fresh: listFreshFields(input),
    contentLength: head.contentLength,
    isChunked: head.isChunked,
    connectMs: route.timeouts.connectMs,
    responseMs: route.timeouts.responseMs,
    idleMs: route.timeouts.idleMs,
    needsFresh: exchange.repeats > 0,
  }
}

/** `undefined`: the client's passes as it is. */
function toUpstreamTraceparent({ traceparent, spanId, isTraceOfClient }: Exchange): string | undefined {
  if (spanId !== '' && traceparent !== '') return withParentId(traceparent, spanId)
  return isTraceOfClient ? undefined : traceparent
}

/** An attempt has failed: another one, if that is right, else the end. */
export function handleFailure(exchange: Exchange, failure: UpstreamFailure): void {
  exchange.leaveUpstream()
  warn(exchange, failure)
  if (exchange.isOver) return
  if (exchange.isAnswerBegun) {
    cut(exchange)
    return
  }
  noteFailure(exchange, failure)
  if (tryAgain(exchange, failure)) return
  noteLoss(exchange, failure)
  if (failure.kind === 'overloaded') refuse(exchange, 'no_upstream', { retryAfter: '1' })
  else refuse(exchange, failure.kind === 'timeout' ? 'upstream_timeout' : 'upstream_unreachable')
}

/** Whether there was reason for another attempt, and a target for it. */
function tryAgain(exchange: Exchange, failure: UpstreamFailure): boolean {
  const { upstream, target, route, head, deps } = exchange
  const retry = findRetry(exchange, failure)
  if (retry === undefined) return false
  if (upstream === undefined || target === undefined || route === undefined || head === undefined)
    return false
  if (retry !== 'same') {
    exchange.tried = [...exchange.tried, target]
    const next = pickTarget(upstream, exchange.tried, deps.clock)
    if (next === undefined) return false
    exchange.target = next
  }
  if (retry !== 'move') exchange.repeats++
  send(exchange, route, head)
  return true
}

function warn(exchange: Exchange, failure: UpstreamFailure): void {
  const { upstream, target, deps, requestId } = exchange
  const nowMs = performance.now()
  if (upstream === undefined || nowMs - upstream.warnedAtMs < WARN_INTERVAL_MS) return
  upstream.warnedAtMs = nowMs
  const { cause, kind } = failure
  deps.logger.warn('upstream failed', {
    upstream: upstream.name,
    target: target?.target.host,
    kind,
    cause: cause instanceof Error ? cause.message : String(cause),
    request_id: requestId,
  })
}
