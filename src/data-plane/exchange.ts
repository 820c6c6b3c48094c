import { performance } from 'node:perf_hooks'
import type { CheckKey } from '../app/check-key.ts'
import type { GatewayErrorCode } from '../domain/errors.ts'
import type {
  CacheOutcome,
  Clock,
  DecisionLabel,
  FinishedExchange,
  Logger,
  Recorder,
  SpanFacts,
} from '../ports/runtime.ts'
import type {
  ClientStream,
  RawFields,
  TunnelStream,
  UpstreamHandler,
  UpstreamStream,
} from '../ports/transport.ts'
import type { AddressRanges } from './address-ranges.ts'
import type { ThreadCache } from './cache/thread-cache.ts'
import type { ClientAddress } from './client-address.ts'
import type { HeadLimits, RequestHead } from './request-check.ts'
import { type RequestFacts, recall } from './request-facts.ts'
import type { Route } from './route.ts'
import type { RouteTable } from './route-table.ts'
import type { PooledTarget, Upstream, Upstreams } from './upstream-pool.ts'

export interface PipelineDeps {
  readonly checkKey: CheckKey
  /**
   * Decides by this node's own buckets while the store cannot be reached (`on_store_error: local`).
   * Without it, such routes deny.
   */
  readonly checkLocally: CheckKey | undefined
  /** SHA-256 in lowercase hex of a byte string (one character, one byte). */
  readonly hashToken: (token: string) => string
  readonly recorder: Recorder
  readonly cache: ThreadCache
  readonly clock: Clock
  readonly createRequestId: () => string
  readonly logger: Logger
}

/** What a reload replaces, as one. */
export interface Plan {
  readonly routes: RouteTable
  readonly upstreams: Upstreams
  readonly trustedProxies: AddressRanges
  readonly headLimits: HeadLimits
  /** Makes a trace for requests that come without one; left out: they go on without. */
  readonly createTraceparent?: (() => string) | undefined
  /** Left out: the gateway exports no spans, and takes no part in traces. */
  readonly createSpanId?: (() => string) | undefined
}

export type { CacheOutcome }

const NONE_TRIED: readonly PooledTarget[] = []

/** The part of the response cache in one exchange; hears the upstream in its place. */
export interface CacheUse extends UpstreamHandler {
  /** The fields of the request to send upstream. */
  readonly rawHeaders: RawFields
  /** The client takes more of a stored body. */
  resume(): void
  /** The exchange is to be refused: whether the client was given a stored answer instead. */
  rescue(code: GatewayErrorCode): boolean
  /** The exchange is over. */
  finish(): void
}

/** What the stages take and hand on. */
export type Exchange = ExchangeState & UpstreamHandler

/**
 * One client request and its answer inside the gateway: the state that the stages share. It stays
 * with the plan it began with.
 */
export class ExchangeState implements FinishedExchange {
  readonly deps: PipelineDeps
  readonly plan: Plan
  readonly client: ClientStream

  // What is recorded at the end.
  routeId = -1
  routeName = 'none'
  decision: DecisionLabel = 'rejected'
  status = 0
  readonly method: string
  path: string
  readonly startMs: number
  durationMs = 0
  upstreamName = ''
  upstreamId = -1
  upstreamMs = -1
  bytesIn = 0
  bytesOut = 0
  readonly requestId: string
  traceparent: string
  kid = ''
  readonly remoteAddress: string
  aborted = false

  // What the stages hand on.
  readonly facts: RequestFacts
  readonly address: ClientAddress
  head: RequestHead | undefined = undefined
  route: Route | undefined = undefined
  ksid = ''
  isTraceOfClient: boolean
  /** Of the span that the upstream works under; `''` where the gateway takes no part in the trace. */
  spanId = ''
  upstreamStatus = 0
  limitFields: RawFields = []
  degraded: 'allow' | 'local' | undefined = undefined
  upstream: Upstream | undefined = undefined
  target: PooledTarget | undefined = undefined
  tried: readonly PooledTarget[] = NONE_TRIED
  /** The upstream's half, while there is one. */
  stream: UpstreamStream | undefined = undefined
  tunnel: TunnelStream | undefined = undefined
  /** How often it was sent again after it had been sent. */
  repeats = 0
  /** A 1xx was passed on. */
  hasInformed = false
  /** Only on routes that cache. */
  cacheUse: CacheUse | undefined = undefined
  cacheOutcome: CacheOutcome | undefined = undefined
  tokenHash = ''
  /** Tokens to take now, and those that were taken. */
  dueCost = 0
  paidCost = 0
  hasBodyStarted = false
  isAnswerBegun = false
  isOver = false
  readonly startedAt: number
  forwardedAt = 0

  constructor(deps: PipelineDeps, plan: Plan, client: ClientStream) {
    this.deps = deps
    this.plan = plan
    this.client = client
    this.method = client.method
    this.path = withoutQuery(client.target)
    this.startedAt = performance.now()
    this.startMs = deps.clock.wallMs()
    this.facts = recall(client.rawHeaders, client.isScreened, client.recollection)
    this.requestId = this.facts.requestId ?? deps.createRequestId()
    this.traceparent = this.facts.traceparent
    this.isTraceOfClient = this.traceparent !== ''
    if (plan.createSpanId !== undefined && !this.isTraceOfClient) this.beginTrace()
    this.address = this.facts.resolveAddress(plan.trustedProxies, client.peerAddress)
    this.remoteAddress = this.address.address
  }

  /** A trace of our own, instead of the client's if it has one. */
  beginTrace(): void {
    this.isTraceOfClient = false
    this.traceparent = this.plan.createTraceparent?.() ?? ''
  }

  describeSpans(): SpanFacts {
    return {
      isTraceOfClient: this.isTraceOfClient,
      upstreamSpanId: this.spanId,
      upstreamDelayMs: this.forwardedAt - this.startedAt,
      upstreamStatus: this.upstreamStatus,
      targetHost: this.target?.target.host ?? '',
      scheme: this.client.protocol,
      httpVersion: this.client.httpVersion,
      host: this.head?.host ?? '',
    }
  }

  /** Gives up what is under way with the upstream, if anything is. */
  abandonUpstream(): void {
    const { stream } = this
    this.leaveUpstream()
    stream?.abort()
  }

  /** The upstream has done its part, one way or the other. */
  leaveUpstream(): void {
    if (this.stream === undefined) return
    this.stream = undefined
    this.tunnel = undefined
    if (this.target !== undefined) this.target.inFlight--
    this.upstreamMs = performance.now() - this.forwardedAt
  }

  /** Records the exchange; only the first call counts. */
  finish(): void {
    if (this.isOver) return
    this.isOver = true
    if (this.cacheUse !== undefined) this.cacheUse.finish()
    this.durationMs = performance.now() - this.startedAt
    this.deps.recorder.record(this)
  }
}

function withoutQuery(target: string): string {
  const mark = target.indexOf('?')
  return mark < 0 ? target : target.slice(0, mark)
}
