import type { Recollection, SteadyFields } from '../ports/transport.ts'
import type { AddressRanges } from './address-ranges.ts'
import { type ClientAddress, resolveClientAddress } from './client-address.ts'
import { type Credential, extractCredential } from './credentials.ts'
import { buildSteadyFields, findRequestId, findTraceparent, type UpstreamHeadersInput } from './headers.ts'
import { asksProblem } from './local-answers.ts'
import type { RawHeaders } from './raw-headers.ts'
import { type FramingFields, readFramingFields } from './request-check.ts'
import type { Route } from './route.ts'

/** Routes, peers and keys that share one list of fields: mostly one of each. */
const KEPT_MAX = 4

interface Circumstances {
  readonly route: Route
  readonly kid: string | undefined
  readonly ksid: string | undefined
  readonly targetHost: string
  readonly peer: string
  readonly isPeerTrusted: boolean
  readonly protocol: string
  readonly isWebSocket: boolean
  readonly replacesTrace: boolean
  readonly keepsTraceState: boolean
}

interface Kept {
  readonly at: Circumstances
  readonly steady: SteadyFields
}

/**
 * What follows from the fields of a request, and what was worked out from them for a route and a
 * peer. Where the front remembers the fields, all requests that have them share one of these, so
 * nothing in it may depend on anything else.
 */
export class RequestFacts {
  readonly framing: FramingFields
  /** The client's `X-Request-Id`, where it may be kept. */
  readonly requestId: string | undefined
  /** The client's `traceparent`; `''` without a sound one. */
  readonly traceparent: string
  /** What the gateway has to say itself is to be a problem of RFC 9457. */
  readonly asksProblem: boolean
  readonly #rawHeaders: RawHeaders
  /** More requests may come with these facts. */
  readonly #isShared: boolean
  #trusted: AddressRanges | undefined = undefined
  #peerAddress = ''
  #address: ClientAddress | undefined = undefined
  #route: Route | undefined = undefined
  #credential: Credential | undefined = undefined
  #token = ''
  #tokenHash = ''
  readonly #kept: Kept[] = []
  #turn = 0

  constructor(rawHeaders: RawHeaders, isScreened: boolean, isShared: boolean) {
    this.#rawHeaders = rawHeaders
    this.#isShared = isShared
    this.framing = readFramingFields(rawHeaders, isScreened)
    this.requestId = findRequestId(rawHeaders)
    this.traceparent = findTraceparent(rawHeaders)
    this.asksProblem = asksProblem(rawHeaders)
  }

  /** Of the client, for a peer. */
  resolveAddress(trusted: AddressRanges, peerAddress: string): ClientAddress {
    if (this.#address === undefined || this.#trusted !== trusted || this.#peerAddress !== peerAddress) {
      this.#trusted = trusted
      this.#peerAddress = peerAddress
      this.#address = resolveClientAddress(trusted, peerAddress, this.#rawHeaders)
    }
    return this.#address
  }

  /** `query` counts only where the route looks there. */
  extractCredential(route: Route, query: string): Credential {
    if (route.token.query !== '') return extractCredential(route, this.#rawHeaders, query)
    if (this.#credential === undefined || this.#route !== route) {
      this.#route = route
      this.#credential = extractCredential(route, this.#rawHeaders, '')
    }
    return this.#credential
  }

  /** The hash of a token that was found in the fields; `hash` says what it is. */
  hashToken(token: string, hash: (token: string) => string): string {
    if (this.#token !== token || token === '') {
      this.#token = token
      this.#tokenHash = hash(token)
    }
    return this.#tokenHash
  }

  /** The fields to send upstream, but for those that no other request has. */
  listSteadyFields(input: UpstreamHeadersInput): SteadyFields {
    if (!this.#isShared) return { list: buildSteadyFields(input), encoded: undefined }
    for (const kept of this.#kept) {
      if (isIn(kept.at, input)) return kept.steady
    }
    const steady = { list: buildSteadyFields(input), encoded: undefined }
    this.#kept[this.#turn] = { at: toCircumstances(input), steady }
    this.#turn = (this.#turn + 1) % KEPT_MAX
    return steady
  }
}

/** The facts that were left with the fields, or new ones. */
export function recall(
  rawHeaders: RawHeaders,
  isScreened: boolean,
  recollection: Recollection | undefined,
): RequestFacts {
  const facts = recollection?.facts
  if (facts instanceof RequestFacts) return facts
  const learned = new RequestFacts(rawHeaders, isScreened, recollection !== undefined)
  if (recollection !== undefined) recollection.facts = learned
  return learned
}

/** What, beside the fields of a request, its steady fields depend on. */
function toCircumstances(input: UpstreamHeadersInput): Circumstances {
  const { route, kid, ksid, client, protocol, head } = input
  return {
    route,
    kid,
    ksid,
    targetHost: toTargetHost(input),
    peer: client.peer,
    isPeerTrusted: client.isPeerTrusted,
    protocol,
    isWebSocket: head.isWebSocket,
    replacesTrace: input.traceparent !== undefined,
    keepsTraceState: input.keepsTraceState === true,
  }
}

function isIn(at: Circumstances, input: UpstreamHeadersInput): boolean {
  return (
    at.route === input.route &&
    at.kid === input.kid &&
    at.ksid === input.ksid &&
    at.targetHost === toTargetHost(input) &&
    at.peer === input.client.peer &&
    at.isPeerTrusted === input.client.isPeerTrusted &&
    at.protocol === input.protocol &&
    at.isWebSocket === input.head.isWebSocket &&
    at.replacesTrace === (input.traceparent !== undefined) &&
    at.keepsTraceState === (input.keepsTraceState === true)
  )
}

/** Where the client's `Host` is kept, it makes no difference which target it is. */
function toTargetHost({ route, head, upstreamHost }: UpstreamHeadersInput): string {
  return route.hostHeader === 'upstream' || head.host === '' ? upstreamHost : ''
}
