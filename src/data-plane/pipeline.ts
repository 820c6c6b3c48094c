import type { Decision } from '../domain/decision.ts'
import type { GatewayErrorCode } from '../domain/errors.ts'
import type { MaybePromise } from '../ports/stores.ts'
import { StoreUnavailable } from '../ports/stores.ts'
import type {
  ClientFault,
  ClientHandler,
  ClientStream,
  FrontHandler,
  WholeAnswer,
} from '../ports/transport.ts'
import { answerFromCache, bringNear, priceOf } from './cache/answer.ts'
import type { Exchange, PipelineDeps, Plan } from './exchange.ts'
import { forward } from './forward.ts'
import { TRACEPARENT } from './headers.ts'
import { LiveExchange } from './live-exchange.ts'
import { buildLocalAnswer } from './local-answers.ts'
import { answerPreflight, matchPreflight } from './preflight.ts'
import { buildRateLimitFields, toRetryAfter } from './rate-limit-fields.ts'
import { type RefusalDetails, refuse } from './relay.ts'
import { checkRequestHead } from './request-check.ts'
import { mayEnter } from './route.ts'
import { matchRoute } from './route-table.ts'

export interface Pipeline extends FrontHandler {
  /** Exchanges that start from now on follow this plan; those that run keep the one they have. */
  replace(plan: Plan): void
}

/**
 * accept → route → identify → decide → forward → relay → record. Each stage ends the exchange
 * early by giving a refusal; it falls through to relay and record like any other answer.
 */
export function createPipeline(deps: PipelineDeps, plan: Plan): Pipeline {
  let current = plan
  return {
    accept: (client) => accept(deps, current, client),
    refuse: (code, peerAddress) => refuseUnparsed(deps, code, peerAddress),
    replace: (next) => {
      current = next
    },
  }
}

interface Refusal extends RefusalDetails {
  readonly code: GatewayErrorCode
}

function accept(deps: PipelineDeps, plan: Plan, client: ClientStream): ClientHandler {
  const exchange = new LiveExchange(deps, plan, client)
  try {
    run(exchange)
  } catch (error) {
    fail(exchange, error)
  }
  return exchange
}

function run(exchange: Exchange): void {
  const refusal = checkHead(exchange) ?? route(exchange) ?? checkAddress(exchange)
  if (refusal !== undefined) {
    refuse(exchange, refusal.code, refusal)
    return
  }
  if (exchange.method === 'OPTIONS' && answerPreflight(exchange)) return
  const token = identify(exchange)
  if (typeof token !== 'string') {
    refuse(exchange, token.code)
  } else if (exchange.route?.isOpen === true) {
    exchange.decision = 'open'
    answer(exchange)
  } else {
    decide(exchange, exchange.facts.hashToken(token, exchange.deps.hashToken))
  }
}

function checkHead(exchange: Exchange): Refusal | undefined {
  const { client, plan, facts } = exchange
  const { httpVersion } = client
  if (httpVersion === 'other') return { code: 'bad_request' }
  const { method, target, rawHeaders, hasUnmeasuredBody } = client
  const received = { method, target, httpVersion, rawHeaders, fields: facts.framing, hasUnmeasuredBody }
  const head = checkRequestHead(received, plan.headLimits)
  if (head.kind === 'fault') return { code: head.code, allow: head.allow }
  exchange.head = head
  exchange.path = head.path
  return undefined
}

function route(exchange: Exchange): Refusal | undefined {
  const { head, plan, client } = exchange
  if (head === undefined) return { code: 'bad_request' }
  const preflight =
    head.method === 'OPTIONS' ? matchPreflight(plan.routes, head, client.rawHeaders) : undefined
  const match = preflight ?? matchRoute(plan.routes, head, client.rawHeaders)
  switch (match.kind) {
    case 'not_found':
      return { code: 'not_found' }
    case 'ambiguous':
      return { code: 'ambiguous_path' }
    case 'method_not_allowed':
      return { code: 'method_not_allowed', allow: match.allow }
    case 'route':
      exchange.route = match.route
      exchange.routeId = match.route.index
      exchange.routeName = match.route.name
      // Where the client's trace is not taken over, it does not decide what is recorded either.
      if (plan.createSpanId !== undefined && match.route.requestFields.drops.has(TRACEPARENT))
        exchange.beginTrace()
      exchange.dueCost = match.route.cache === undefined ? match.route.cost : match.route.cache.firstCost
      return undefined
  }
}

function checkAddress({ route, address }: Exchange): Refusal | undefined {
  if (route?.addresses === undefined || mayEnter(route.addresses, address.address)) return undefined
  return { code: 'forbidden' }
}

/** The token as the client sent it; `''` on an open route. */
function identify(exchange: Exchange): string | Refusal {
  const { route, head, facts } = exchange
  if (route === undefined || head === undefined || route.isOpen) return ''
  const credential = facts.extractCredential(route, head.query)
  switch (credential.kind) {
    case 'token':
      return credential.token
    case 'conflict':
      return { code: 'bad_request' }
    case 'missing':
      exchange.decision = 'missing_token'
      return { code: 'missing_token' }
  }
}

/** Stays in this turn of the event loop where the check does. */
function decide(exchange: Exchange, tokenHash: string): void {
  const { route, deps } = exchange
  if (route === undefined) return
  exchange.tokenHash = tokenHash
  let decision: MaybePromise<Decision>
  try {
    decision = deps.checkKey(tokenHash, route.keyspaces, exchange.dueCost)
  } catch (error) {
    handleCheckError(exchange, tokenHash, error)
    return
  }
  if (!(decision instanceof Promise)) {
    follow(exchange, decision)
    return
  }
  decision.then(
    (late) => guard(exchange, () => follow(exchange, late)),
    (error: unknown) => guard(exchange, () => handleCheckError(exchange, tokenHash, error)),
  )
}

function follow(exchange: Exchange, decision: Decision): void {
  // The client may have left while the store was asked.
  if (exchange.isOver) return
  const { route } = exchange
  if (route === undefined) return
  switch (decision.kind) {
    case 'unknown':
      exchange.decision = 'invalid_token'
      refuse(exchange, 'invalid_token')
      return
    case 'expired':
      exchange.decision = 'expired_token'
      exchange.kid = decision.kid
      refuse(exchange, 'expired_token')
      return
    case 'limited':
      exchange.decision = 'limited'
      exchange.kid = decision.kid
      exchange.limitFields = buildRateLimitFields(route, decision)
      refuse(exchange, 'rate_limited', { retryAfter: toRetryAfter(decision.retryAfterMs) })
      return
    case 'allowed':
      exchange.decision = exchange.degraded === undefined ? 'allowed' : 'store_error'
      exchange.kid = decision.kid
      exchange.ksid = decision.ksid
      exchange.limitFields = buildRateLimitFields(route, decision)
      answer(exchange)
  }
}

/** From the cache where the route has one; it may find that there is more to pay, as for a miss. */
function answer(exchange: Exchange): void {
  if (exchange.route?.cache === undefined) {
    forward(exchange)
    return
  }
  exchange.paidCost += exchange.dueCost
  payOrAnswer(exchange, exchange.paidCost === 0)
}

function payOrAnswer(exchange: Exchange, mayLook: boolean): void {
  exchange.dueCost = priceOf(exchange) - exchange.paidCost
  if (exchange.dueCost <= 0) {
    answerFromCache(exchange)
    return
  }
  const goOn = () => guard(exchange, () => payOrAnswer(exchange, false))
  if (!mayLook || !bringNear(exchange, goOn)) decide(exchange, exchange.tokenHash)
}

/** The store cannot be asked: the route says what happens then. Anything else is a fault of ours. */
function handleCheckError(exchange: Exchange, tokenHash: string, error: unknown): void {
  if (exchange.isOver) return
  if (!(error instanceof StoreUnavailable)) {
    fail(exchange, error)
    return
  }
  exchange.decision = 'store_error'
  const policy = exchange.route?.onStoreError
  if (policy === 'allow') {
    exchange.degraded = 'allow'
    answer(exchange)
  } else if (policy === 'local' && exchange.degraded === undefined) {
    decideLocally(exchange, tokenHash)
  } else {
    exchange.degraded = undefined
    refuse(exchange, 'store_unavailable', { retryAfter: '1' })
  }
}

function decideLocally(exchange: Exchange, tokenHash: string): void {
  const { deps, route } = exchange
  if (deps.checkLocally === undefined || route === undefined) {
    refuse(exchange, 'store_unavailable', { retryAfter: '1' })
    return
  }
  exchange.degraded = 'local'
  // Asking for a promise even where none is needed: this is not the hot path.
  Promise.resolve()
    .then(() => deps.checkLocally?.(tokenHash, route.keyspaces, exchange.dueCost))
    .then(
      (decision) => guard(exchange, () => decision !== undefined && follow(exchange, decision)),
      (error: unknown) => guard(exchange, () => handleCheckError(exchange, tokenHash, error)),
    )
}

/** Runs a late stage; what it throws ends the exchange, not the thread. */
function guard(exchange: Exchange, stage: () => void): void {
  try {
    stage()
  } catch (error) {
    fail(exchange, error)
  }
}

function fail(exchange: Exchange, error: unknown): void {
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
  exchange.deps.logger.error('exchange failed', { request_id: exchange.requestId, cause: message })
  refuse(exchange, 'internal_error')
}

/** An answer, and a record, for what the front could not read as a request. */
function refuseUnparsed(deps: PipelineDeps, code: ClientFault, peerAddress: string): WholeAnswer {
  const requestId = deps.createRequestId()
  const answer = buildLocalAnswer({ code, requestId, method: '', asksProblem: false })
  deps.recorder.record({
    routeId: -1,
    routeName: 'none',
    decision: 'rejected',
    status: answer.status,
    method: '',
    path: '',
    startMs: deps.clock.wallMs(),
    durationMs: 0,
    upstreamName: '',
    upstreamId: -1,
    upstreamMs: -1,
    bytesIn: 0,
    bytesOut: answer.body.length,
    requestId,
    kid: '',
    remoteAddress: peerAddress,
    aborted: false,
  })
  return answer
}
