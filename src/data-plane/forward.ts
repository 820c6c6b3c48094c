import type { UpstreamFailure, UpstreamRequest } from '../ports/transport.ts'
import type { Exchange } from './exchange.ts'
import { buildForwardTarget } from './forward-target.ts'
import { buildUpstreamHeaders } from './headers.ts'
import { cut, refuse } from './relay.ts'
import type { RequestHead } from './request-check.ts'
import type { Route } from './route.ts'
import { pickTarget } from './upstream-pool.ts'

/**
 * Methods that may be sent a second time though the first may have been carried out: the safe ones.
 * PUT and DELETE may be repeated by those who know what they mean (RFC 9110 section 9.2.2), but
 * somebody else's change in between would be undone.
 */
const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS'])

const WARN_INTERVAL_MS = 1000

/** Sends the exchange to the next target of its route's upstream. */
export function forward(exchange: Exchange): void {
  const { route, head, plan } = exchange
  if (route === undefined || head === undefined) return
  if (head.contentLength > route.bodyBytesMax) {
    refuse(exchange, 'body_too_large')
    return
  }
  exchange.upstream ??= plan.upstreams.find(route.upstream)
  const { upstream } = exchange
  const picked = upstream === undefined ? undefined : pickTarget(upstream, exchange.tried)
  if (upstream === undefined || picked === undefined) {
    refuse(exchange, 'no_upstream', { retryAfter: '1' })
    return
  }
  if (exchange.forwardedAt === 0) {
    exchange.forwardedAt = performance.now()
    if (!exchange.isTraceOfClient) exchange.traceparent = plan.createTraceparent?.() ?? ''
  }
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
    exchange.stream = pooled.target.send(request, exchange)
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
  const { kid, ksid } = exchange
  return {
    method: head.method,
    target: buildForwardTarget(route, head),
    rawHeaders: buildUpstreamHeaders({
      route,
      head,
      rawHeaders: exchange.client.rawHeaders,
      client: exchange.address,
      protocol: exchange.client.protocol,
      requestId: exchange.requestId,
      traceparent: exchange.isTraceOfClient ? undefined : exchange.traceparent,
      kid: kid === '' ? undefined : kid,
      ksid: ksid === '' ? undefined : ksid,
      upstreamHost,
    }),
    contentLength: head.contentLength,
    isChunked: head.isChunked,
    connectMs: route.timeouts.connectMs,
    responseMs: route.timeouts.responseMs,
    idleMs: route.timeouts.idleMs,
    needsFresh: exchange.hasRetried,
  }
}

/**
 * A request is sent a second time only if nothing of it went out, or if it is safe, has no body, and
 * the reused connection was dead before any byte of an answer; the latter once.
 */
export function handleFailure(exchange: Exchange, failure: UpstreamFailure): void {
  const { upstream, target, route, head } = exchange
  exchange.leaveUpstream()
  warn(exchange, failure)
  if (exchange.isOver) return
  if (exchange.isAnswerBegun) {
    cut(exchange)
    return
  }
  if (failure.isUnsent && !exchange.hasBodyStarted && upstream !== undefined && target !== undefined) {
    exchange.tried = [...exchange.tried, target]
    if (exchange.tried.length < upstream.targets.length) {
      forward(exchange)
      return
    }
  } else if (failure.isStale && route !== undefined && head !== undefined && mayRepeat(exchange, head)) {
    exchange.hasRetried = true
    send(exchange, route, head)
    return
  }
  if (failure.kind === 'overloaded') refuse(exchange, 'no_upstream', { retryAfter: '1' })
  else refuse(exchange, failure.kind === 'timeout' ? 'upstream_timeout' : 'upstream_unreachable')
}

function mayRepeat(exchange: Exchange, head: RequestHead): boolean {
  const hasBody = head.isChunked || head.contentLength > 0
  return !exchange.hasRetried && !hasBody && SAFE_METHODS.has(head.method)
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
