import { GATEWAY_ERRORS, type GatewayErrorCode } from '../domain/errors.ts'
import type { RawFields, Recollection } from '../ports/transport.ts'
import { listSteadyAnswerFields } from './answer-facts.ts'
import { addCorsFields } from './cors.ts'
import type { Exchange } from './exchange.ts'
import { asksGrpc, buildGrpcAnswer } from './grpc.ts'
import { buildSteadyAnswerFields, buildTrailers, listFreshAnswerFields } from './headers.ts'
import { buildLocalAnswer } from './local-answers.ts'

/*
 * The way back: answers of the upstream and answers made here, both with what the gateway adds.
 */

export interface RefusalDetails {
  /** Value of `Allow`. */
  readonly allow?: string | undefined
  /** Value of `Retry-After`. */
  readonly retryAfter?: string | undefined
}

/**
 * Ends an exchange with an answer made here; what is under way with the upstream is given up. If
 * an answer has begun already, the connection is cut, so that nobody takes it for complete.
 */
export function refuse(exchange: Exchange, code: GatewayErrorCode, details: RefusalDetails = {}): void {
  exchange.abandonUpstream()
  if (exchange.isOver) return
  if (exchange.isAnswerBegun) {
    cut(exchange)
    return
  }
  if (exchange.cacheUse?.rescue(code) === true) return
  const input = {
    code,
    requestId: exchange.requestId,
    method: exchange.method,
    asksProblem: exchange.facts.asksProblem,
    allow: details.allow,
    retryAfter: details.retryAfter,
    fields: listOwnFields(exchange),
  }
  const isGrpc = exchange.client.httpVersion === '2.0' && asksGrpc(exchange.client.rawHeaders)
  const answer = isGrpc ? buildGrpcAnswer(input) : buildLocalAnswer(input)
  exchange.isAnswerBegun = true
  // To a gRPC client every answer is a 200; what is counted is what it means.
  exchange.status = isGrpc ? GATEWAY_ERRORS[code].status : answer.status
  exchange.bytesOut = answer.body.length
  exchange.client.sendWhole(answer)
}

/** An answer that was begun will never be complete. */
export function cut(exchange: Exchange): void {
  exchange.aborted = true
  exchange.client.abort()
}

export function beginAnswer(
  exchange: Exchange,
  status: number,
  rawHeaders: RawFields,
  recollection?: Recollection,
): void {
  const { route, client } = exchange
  if (route === undefined) return
  const steady = listSteadyAnswerFields({ route, status, rawHeaders, hasUpgraded: false }, recollection)
  const fresh = listFreshAnswerFields(exchange)
  if (route.cors !== undefined) addCorsFields(fresh, route.cors, client.rawHeaders)
  try {
    client.sendHead(status, steady, fresh, route.timeouts.idleMs)
  } catch {
    // Nothing was sent: the status or a field of the answer is unfit for the wire.
    refuse(exchange, 'upstream_unreachable')
    return
  }
  exchange.isAnswerBegun = true
  exchange.status = status
}

export function endAnswer(exchange: Exchange, rawTrailers: RawFields): void {
  const { route, client } = exchange
  const isPlain = rawTrailers.length === 0 || route === undefined
  try {
    client.sendEnd(isPlain ? [] : buildTrailers(route, rawTrailers))
  } catch {
    cut(exchange)
  }
}

export function passInformation(exchange: Exchange, status: number, rawHeaders: RawFields): void {
  const { route, client, requestId } = exchange
  if (route === undefined || exchange.isAnswerBegun) return
  const fields = buildSteadyAnswerFields({ route, status, rawHeaders, hasUpgraded: false })
  fields.push(...listFreshAnswerFields({ requestId, limitFields: [], degraded: undefined }))
  try {
    client.sendInformation(status, fields)
  } catch {
    // Unfit for the wire. Nobody depends on it.
  }
}

export function passRequestTrailers(exchange: Exchange, rawTrailers: RawFields): void {
  const { route, stream } = exchange
  if (stream === undefined) return
  stream.endBody(
    rawTrailers.length === 0 || route === undefined ? rawTrailers : buildTrailers(route, rawTrailers),
  )
}

/** The fields of the 101 that opens a tunnel; the client's socket is left to the tunnel. */
export function beginTunnel(exchange: Exchange, rawHeaders: RawFields): string[] {
  const { route, client } = exchange
  exchange.isAnswerBegun = true
  exchange.status = 101
  client.release()
  if (route === undefined) return []
  const steady = buildSteadyAnswerFields({ route, status: 101, rawHeaders, hasUpgraded: true })
  return [...steady, ...listFreshAnswerFields(exchange)]
}

function listOwnFields(exchange: Exchange): RawFields {
  const { limitFields, degraded, client } = exchange
  const cors = exchange.route?.cors
  if (degraded === undefined && cors === undefined) return limitFields
  const fields = [...limitFields]
  if (degraded !== undefined) fields.push('X-Dripgate-Degraded', degraded)
  if (cors !== undefined) addCorsFields(fields, cors, client.rawHeaders)
  return fields
}
