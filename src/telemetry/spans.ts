import { isIPv6 } from 'node:net'
import { toParentId, toTraceId } from '../domain/traceparent.ts'
import type { FinishedExchange, SpanFacts } from '../ports/runtime.ts'

/*
 * Exchanges as spans of OpenTelemetry, in the JSON of OTLP (proto3 JSON, but ids in hex), with the
 * attributes of its HTTP conventions. Never a query, a field or a token.
 */

interface Attribute {
  readonly key: string
  readonly value: { readonly stringValue: string } | { readonly intValue: string }
}

const KIND_SERVER = 2
const KIND_CLIENT = 3
const STATUS_ERROR = { code: 2 }
const TEXT_LENGTH_MAX = 256
const PATH_LENGTH_MAX = 2048
const KNOWN_METHODS: ReadonlySet<string> = new Set([
  ...['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'CONNECT', 'TRACE', 'QUERY'],
])

/**
 * The span of the exchange, and below it that of what was asked of the upstream, if anything was;
 * each as its JSON text, which holds on to nothing of the exchange.
 */
export function encodeSpans(
  exchange: FinishedExchange,
  traceparent: string,
  createSpanId: () => string,
): string[] {
  const facts = exchange.describeSpans?.()
  if (facts === undefined) return []
  const traceId = toTraceId(traceparent)
  const spanId = createSpanId()
  const server = JSON.stringify({
    traceId,
    spanId,
    ...(facts.isTraceOfClient ? { parentSpanId: toParentId(traceparent) } : {}),
    name: nameServerSpan(exchange),
    kind: KIND_SERVER,
    startTimeUnixNano: toNanos(exchange.startMs, 0),
    endTimeUnixNano: toNanos(exchange.startMs, exchange.durationMs),
    attributes: listServerAttributes(exchange, facts),
    ...(exchange.status >= 500 ? { status: STATUS_ERROR } : {}),
  })
  if (countSpans(exchange) === 1) return [server]
  const { upstreamDelayMs } = facts
  const error = findUpstreamError(exchange, facts)
  const client = JSON.stringify({
    traceId,
    spanId: facts.upstreamSpanId === '' ? createSpanId() : facts.upstreamSpanId,
    parentSpanId: spanId,
    name: toKnownMethod(exchange.method),
    kind: KIND_CLIENT,
    startTimeUnixNano: toNanos(exchange.startMs, upstreamDelayMs),
    endTimeUnixNano: toNanos(exchange.startMs, upstreamDelayMs + exchange.upstreamMs),
    attributes: listClientAttributes(exchange, facts, error),
    ...(error === undefined ? {} : { status: STATUS_ERROR }),
  })
  return [server, client]
}

/** How many spans it makes. */
export function countSpans({ upstreamMs }: FinishedExchange): number {
  return upstreamMs < 0 ? 1 : 2
}

/** One request to the collector: the spans with what they have in common. */
export function wrapSpans(spans: readonly string[], version: string): Buffer {
  const resource = { attributes: [text('service.name', 'dripgate'), text('service.version', version)] }
  const scope = { name: 'dripgate', version }
  return Buffer.from(
    `{"resourceSpans":[{"resource":${JSON.stringify(resource)},` +
      `"scopeSpans":[{"scope":${JSON.stringify(scope)},"spans":[${spans.join(',')}]}]}]}`,
  )
}

function listServerAttributes(exchange: FinishedExchange, facts: SpanFacts): Attribute[] {
  const { status, path, routeName } = exchange
  const attributes = [
    ...listMethod(exchange.method),
    text('url.scheme', facts.scheme),
    text('network.protocol.name', 'http'),
    text('network.protocol.version', facts.httpVersion === '2.0' ? '2' : facts.httpVersion),
    text('client.address', exchange.remoteAddress),
    ...listServer(facts.host),
    text('dripgate.decision', exchange.decision),
  ]
  // Before a request was understood, what stands for its path may be anything.
  if (path.startsWith('/')) attributes.push(text('url.path', path, PATH_LENGTH_MAX))
  if (exchange.routeId >= 0) attributes.push(text('http.route', routeName))
  if (status > 0) attributes.push(int('http.response.status_code', status))
  if (status >= 500) attributes.push(text('error.type', String(status)))
  if (exchange.cacheOutcome !== undefined) attributes.push(text('dripgate.cache', exchange.cacheOutcome))
  return attributes
}

function listClientAttributes(
  exchange: FinishedExchange,
  { targetHost, upstreamStatus }: SpanFacts,
  error: string | undefined,
): Attribute[] {
  const attributes = [
    ...listMethod(exchange.method),
    ...listServer(targetHost),
    text('dripgate.upstream', exchange.upstreamName),
  ]
  if (upstreamStatus > 0) attributes.push(int('http.response.status_code', upstreamStatus))
  if (error !== undefined) attributes.push(text('error.type', error))
  return attributes
}

/** Value of `error.type`: to whoever asks, a 4xx is an error as well. */
function findUpstreamError({ status }: FinishedExchange, { upstreamStatus }: SpanFacts): string | undefined {
  if (upstreamStatus >= 400) return String(upstreamStatus)
  if (upstreamStatus > 0 || status < 500) return undefined
  return status === 504 ? 'timeout' : '_OTHER'
}

function nameServerSpan({ method, routeId, routeName }: FinishedExchange): string {
  const name = toKnownMethod(method)
  return routeId < 0 ? name : `${name} ${routeName}`
}

/** In names of spans, methods that nobody knows are `HTTP`, so that there are few names. */
function toKnownMethod(method: string): string {
  return KNOWN_METHODS.has(method) ? method : 'HTTP'
}

function listMethod(method: string): Attribute[] {
  if (KNOWN_METHODS.has(method)) return [text('http.request.method', method)]
  return [text('http.request.method', '_OTHER'), text('http.request.method_original', method)]
}

/** Of `HOST` or `HOST:PORT`, with IPv6 in brackets. */
function listServer(authority: string): Attribute[] {
  if (authority === '') return []
  const [, host = authority, digits] = /^(.*?)(?::(\d{1,5}))?$/.exec(authority) ?? []
  const bare = host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host
  const address = text('server.address', isIPv6(bare) ? bare : host)
  return digits === undefined ? [address] : [address, int('server.port', Number(digits))]
}

function text(key: string, value: string, lengthMax = TEXT_LENGTH_MAX): Attribute {
  return { key, value: { stringValue: value.slice(0, lengthMax) } }
}

function int(key: string, value: number): Attribute {
  return { key, value: { intValue: String(value) } }
}

/** Nanoseconds since the epoch, in steps of a microsecond: more digits than a number holds. */
function toNanos(startMs: number, afterMs: number): string {
  const us = Math.max(0, Math.round(afterMs * 1000))
  return `${Math.floor(startMs) + Math.floor(us / 1000)}${String(us % 1000).padStart(3, '0')}000`
}
