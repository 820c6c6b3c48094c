import type {
  ClientHandler,
  ClientStream,
  RawFields,
  SteadyFields,
  UpgradedSocket,
  WholeAnswer,
} from '../../ports/transport.ts'
import type { Exchange, PipelineDeps } from '../exchange.ts'
import { forward } from '../forward.ts'
import { LiveExchange } from '../live-exchange.ts'
import type { CacheRequest } from './cache-request.ts'
import { claimFlight } from './claim-flight.ts'
import type { Entry } from './entry.ts'
import { Fill, withoutConditions } from './fill.ts'
import type { CacheRules } from './rules.ts'

/** Fetches an answer anew while clients still get the old one; one at a time for each. */
export function refresh(options: {
  /** Whose request asked for the answer; the new one is asked for in the same name. */
  readonly exchange: Exchange
  readonly rules: CacheRules
  readonly request: CacheRequest
  readonly key: string
  readonly stale: Entry
}): void {
  const { exchange, rules, request, key, stale } = options
  const { cache } = exchange.deps
  if (cache.flights.find(key) !== undefined) return
  const client = new NoClient(exchange.client)
  const deps: PipelineDeps = {
    ...exchange.deps,
    recorder: NO_RECORDER,
    createRequestId: () => exchange.requestId,
  }
  // Nor is it recorded as a span, so none may be named to the upstream.
  const plan = { ...exchange.plan, createSpanId: undefined }
  const behind = new LiveExchange(deps, plan, client)
  client.handler = behind
  behind.route = exchange.route
  behind.routeId = exchange.routeId
  behind.routeName = exchange.routeName
  behind.head = exchange.head && { ...exchange.head, method: 'GET' }
  behind.kid = exchange.kid
  behind.ksid = exchange.ksid
  const flight = cache.flights.begin(key)
  const isAsked = claimFlight(cache.far, flight, stale, (isFound) => {
    if (isFound) cache.flights.end(flight, 'stored')
    else send()
  })
  if (!isAsked) send()

  function send(): void {
    behind.cacheUse = new Fill({
      ...{ exchange: behind, rules, request, key, stale, flight },
      reason: 'stale',
      isBackground: true,
    })
    forward(behind)
  }
}

/** Requests are counted when they come, and this one has not come from anywhere. */
const NO_RECORDER = { record: () => {} }

/** Stands for a client that asks and does not listen. */
class NoClient implements ClientStream {
  readonly method = 'GET'
  readonly target: string
  readonly httpVersion: ClientStream['httpVersion']
  readonly rawHeaders: RawFields
  readonly recollection = undefined
  readonly isScreened: boolean
  readonly hasUnmeasuredBody = false
  readonly peerAddress: string
  readonly protocol: 'http' | 'https'
  readonly upgraded: UpgradedSocket | undefined = undefined
  handler: ClientHandler | undefined

  constructor(asked: ClientStream) {
    this.target = asked.target
    this.httpVersion = asked.httpVersion
    this.rawHeaders = withoutConditions(asked.rawHeaders)
    this.isScreened = asked.isScreened
    this.peerAddress = asked.peerAddress
    this.protocol = asked.protocol
  }

  startBody(): void {}
  pauseBody(): void {}
  resumeBody(): void {}
  sendInformation(_status: number, _fields: RawFields): void {}
  sendHead(_status: number, _steady: SteadyFields, _fresh: RawFields, _stallMs: number): void {}
  sendChunk(_chunk: Uint8Array): boolean {
    return true
  }
  sendEnd(_trailers: RawFields): void {
    this.handler?.onAnswerSent()
  }
  sendWhole(_answer: WholeAnswer): void {
    this.handler?.onAnswerSent()
  }
  abort(): void {
    this.handler?.onClientGone()
  }
  release(): void {}
}
