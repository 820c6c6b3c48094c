/** What the core needs from the machine it runs on. Adapters are built in gateway.ts and worker.ts. */

export interface Clock {
  /**
   * Milliseconds since the epoch for buckets: whole, the same on every thread, and never stepping
   * back while the process lives, whatever happens to the machine's clock.
   */
  bucketMs(): number
  /** The machine's wall clock in milliseconds since the epoch, for expiries and time stamps. */
  wallMs(): number
}

export interface Random {
  /** `n` bytes fit for secrets. */
  bytes(n: number): Uint8Array
}

/** Fields must not hold secrets; well-known names (`token`, `authorization`, …) are redacted. */
export type LogFields = Readonly<Record<string, unknown>>

/** JSON lines with a constant message. `error` only when a person should act. */
export interface Logger {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
}

/** How an exchange was decided: the label values of the contract, section 7. */
export type DecisionLabel =
  | 'allowed'
  /** The route has no keyspace. */
  | 'open'
  | 'limited'
  | 'missing_token'
  | 'invalid_token'
  | 'expired_token'
  | 'store_error'
  /** Refused before a decision: malformed, ambiguous, not routed, wrong method, too slow. */
  | 'rejected'

/** What the response cache did for an exchange: the label values of `dripgate_cache_requests_total`. */
export type CacheOutcome = 'hit' | 'miss' | 'stale' | 'revalidated' | 'collapsed' | 'bypass'

/**
 * What is known of an exchange when it has ended. The object may be reused by the caller once
 * `record` has returned: copy what must stay.
 */
export interface FinishedExchange {
  /** Position in the list of routes; -1 where none matched. */
  readonly routeId: number
  /** `none` where none matched. */
  readonly routeName: string
  readonly decision: DecisionLabel
  /** As sent to the client; 0 if the client left before any answer was begun. */
  readonly status: number
  /** Empty where the request could not be parsed. */
  readonly method: string
  /** The target as sent, without its query; may hold any visible ASCII, and more where hostile. */
  readonly path: string
  /** Milliseconds since the epoch. */
  readonly startMs: number
  /** From the parsed request head to the last byte handed to the client's socket, monotonic. */
  readonly durationMs: number
  /** `NAME` of the upstream; empty when the request was not forwarded. */
  readonly upstreamName: string
  /** Position in the list of upstreams; -1 when the request was not forwarded. */
  readonly upstreamId: number
  /** From the start of forwarding to the end of the upstream's answer or failure; -1 if not forwarded. */
  readonly upstreamMs: number
  /** Bytes of the request's body that arrived. */
  readonly bytesIn: number
  /** Bytes of the answer's body handed to the client. */
  readonly bytesOut: number
  readonly requestId: string
  /** W3C trace context as sent upstream, or as the client sent it; empty where there is none. */
  readonly traceparent?: string
  /** Key id; empty where no key was identified. */
  readonly kid: string
  /** Where the request started, as far as trusted proxies tell; else the socket's peer. */
  readonly remoteAddress: string
  /** Decided without an answer of the store, as the route says. */
  readonly degraded?: 'allow' | 'local' | undefined
  /** On routes that cache. */
  readonly cacheOutcome?: CacheOutcome | undefined
  /** An answer was begun but did not reach its end, whoever broke it off. */
  readonly aborted: boolean
  /** What only spans tell; to be asked before `record` returns. Left out where no request was read. */
  describeSpans?(): SpanFacts
}

export interface SpanFacts {
  /** Whether the client's span is above ours; else the trace began here. */
  readonly isTraceOfClient: boolean
  /** Of the span that the upstream was named as its parent; empty where none was. */
  readonly upstreamSpanId: string
  /** From `startMs` to the start of forwarding; of no meaning where it was not forwarded. */
  readonly upstreamDelayMs: number
  /** As the upstream sent it; 0 where it sent none. */
  readonly upstreamStatus: number
  /** Host of the target, with its port unless that is the default one. */
  readonly targetHost: string
  readonly scheme: 'http' | 'https'
  readonly httpVersion: string
  /** As the client named it, with a port if it did; empty where it did not. */
  readonly host: string
}

/** Counts and logs finished exchanges. Never throws, never blocks. */
export interface Recorder {
  record(exchange: FinishedExchange): void
}
