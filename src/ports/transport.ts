import type { Duplex } from 'node:stream'
import type { GatewayErrorCode } from '../domain/errors.ts'
import type { TlsMaterial } from './tls.ts'

/*
 * The two seams of the data plane. A front yields one `ClientStream` for each request; an upstream
 * client sends one request to one target and gives an `UpstreamStream`. The exchange in the middle
 * is the handler of both. Streams are called, handlers are called back; no promise, no header
 * object and no closure is needed for one exchange.
 *
 * Back-pressure works the same way on all four: a `send…`/`writeBody` that returns false means
 * "taken, but send no more until drain". Every failure is a call of the handler, never an `error`
 * event or a rejection. Handlers are never called from inside the call that opened the stream.
 */

/** Header or trailer fields as on the wire: name, value, name, value …, decoded as Latin-1. */
export type RawFields = readonly string[]

/**
 * Goes with fields that came before and may come again, the same for each message that has them:
 * whoever works something out from them alone may leave it here, and find it next time.
 */
export interface Recollection {
  facts: object | undefined
}

/** Fields that are sent again and again. */
export interface SteadyFields {
  readonly list: RawFields
  /** Left here by the first who writes them as HTTP/1.1. */
  encoded: EncodedFields | undefined
}

/** Fields as lines, ready for the wire. */
export interface EncodedFields {
  /** Without `Trailer`. */
  readonly text: string
  /** The lines of `Trailer`, which may only stand where trailers can follow; mostly `''`. */
  readonly trailer: string
  /** -1 where they announce none. */
  readonly contentLength: number
  readonly hasDate: boolean
}

export interface UpgradedSocket {
  readonly socket: Duplex
  /** Bytes that came behind the head of the request; they belong to the new protocol. */
  readonly head: Buffer
}

/** The client's half of one exchange, owned by the front. */
export interface ClientStream {
  readonly method: string
  /** As received. */
  readonly target: string
  /** `other`: the pipeline refuses it. */
  readonly httpVersion: '1.0' | '1.1' | '2.0' | 'other'
  readonly rawHeaders: RawFields
  /** Of the fields, where the front remembers those of late. */
  readonly recollection: Recollection | undefined
  /** The front has made sure that names are tokens and values hold no control characters. */
  readonly isScreened: boolean
  /** A body follows though no field says so, as HTTP/2 allows. */
  readonly hasUnmeasuredBody: boolean
  readonly peerAddress: string
  readonly protocol: 'http' | 'https'
  /** The request asks for a WebSocket: `upgradedSocket` may be used instead of an answer. */
  readonly upgraded: UpgradedSocket | undefined

  /**
   * Begins to deliver the body, after a 100 (Continue) where the client waits for one. Before
   * this call nothing of the body is read by the exchange. Later calls do nothing.
   */
  startBody(): void
  pauseBody(): void
  resumeBody(): void

  /** A 1xx other than 100 and 101. Dropped where the client cannot take it. */
  sendInformation(status: number, fields: RawFields): void
  /**
   * Begins the answer, with the steady fields and then the `fresh` ones; its framing follows from
   * `Content-Length` in the steady ones. Throws, having sent nothing, if something in it is unfit for
   * the wire. The client is cut off when it takes no data for `stallMs` (0: never).
   */
  sendHead(status: number, steady: SteadyFields, fresh: RawFields, stallMs: number): void
  /** The chunk is lent: what is not sent before the call returns is copied. */
  sendChunk(chunk: Uint8Array): boolean
  sendEnd(trailers: RawFields): void
  /** Head and body of an answer made here. */
  sendWhole(answer: WholeAnswer): void
  /** Cuts the connection, so that an answer already begun is seen to be broken. */
  abort(): void
  /** Leaves the socket to a tunnel; no answer may be sent any more. */
  release(): void
}

export interface WholeAnswer {
  readonly status: number
  readonly steady: SteadyFields
  /** What follows them: of this answer alone. */
  readonly fresh: RawFields
  /** ASCII. Already empty where the request was HEAD. */
  readonly body: string
  /** Whether the connection must end with this answer. */
  readonly mustClose: boolean
}

export type ClientFault = Extract<
  GatewayErrorCode,
  'bad_request' | 'request_timeout' | 'headers_too_large' | 'uri_too_long'
>

/** What a front tells the exchange. After `onClientGone` or `onAnswerSent` nothing more comes. */
export interface ClientHandler {
  /** The chunk is lent until the call returns. */
  onBodyChunk(chunk: Uint8Array): void
  onBodyEnd(trailers: RawFields): void
  onClientDrain(): void
  /** The rest of the body will not come: it is malformed, or too slow. */
  onClientFault(code: ClientFault): void
  /** The connection is gone before the answer was complete. */
  onClientGone(): void
  /** The whole answer was handed to the socket. */
  onAnswerSent(): void
  /** The gateway is about to stop: a tunnel should say goodbye. */
  onGoAway(): void
}

/** What a front needs from the pipeline. */
export interface FrontHandler {
  /** A request head has arrived. */
  accept(client: ClientStream): ClientHandler
  /** Something arrived that is no request; the connection ends with the answer. */
  refuse(code: ClientFault, peerAddress: string): WholeAnswer
}

export interface Front {
  readonly address: { readonly host: string; readonly port: number }
  /**
   * For connections that begin from now on. Throws, having changed nothing, where it is unfit;
   * without effect on a front that was opened without TLS.
   */
  replaceTls(material: TlsMaterial): void
  /**
   * The front will be closed before long: it goes on as before, but every answer that begins from
   * now on ends its connection, so that clients go elsewhere without a request being lost.
   */
  drain(): void
  /**
   * Stops accepting, lets running exchanges finish, ends idle connections and says goodbye to
   * WebSockets; whatever is left after `graceMs` is cut off. Resolves when no connection is left.
   */
  close(graceMs: number): Promise<void>
}

/** One request to one target. Timeouts are in milliseconds; 0 waits for ever. */
export interface UpstreamRequest {
  readonly method: string
  readonly target: string
  /** With `Host`, and `Content-Length` where there is one; without transfer coding and connection options. */
  readonly steady: SteadyFields
  /** What follows them: of this request alone. */
  readonly fresh: RawFields
  /** Bytes; -1 where the request has none or is chunked. */
  readonly contentLength: number
  readonly isChunked: boolean
  readonly connectMs: number
  readonly responseMs: number
  readonly idleMs: number
  /** Do not reuse a connection: the last one was found dead. */
  readonly needsFresh: boolean
}

/** The upstream's half of one exchange. All calls are allowed at any time; late ones do nothing. */
export interface UpstreamStream {
  /** The chunk is lent: what is not sent before the call returns is copied. */
  writeBody(chunk: Uint8Array): boolean
  endBody(trailers: RawFields): void
  /** Holds back the body of the answer. */
  pause(): void
  resume(): void
  /** Gives up; the handler is not called any more. */
  abort(): void
}

/** A stream that may turn into a WebSocket tunnel. */
export interface TunnelStream extends UpstreamStream {
  /** Tells the client that the gateway goes away (close code 1001). */
  goAway(): void
}

export interface UpstreamFailure {
  readonly kind: 'unreachable' | 'timeout' | 'overloaded'
  /** Nothing of the request was sent, so another target may get it. */
  readonly isUnsent: boolean
  /** A reused connection was dead before any byte of an answer; the request may have been read. */
  readonly isStale: boolean
  /** For the log only. */
  readonly cause: unknown
}

/** After `onAnswerEnd`, `onUpstreamFailure` or `onTunnelEnd` nothing more comes. */
export interface UpstreamHandler {
  /** Connected: the body may be written. Not called where the request has none. */
  onUpstreamReady(): void
  onUpstreamDrain(): void
  /** A 1xx other than 100 and 101. */
  onInformation(status: number, fields: RawFields): void
  onAnswerHead(status: number, fields: RawFields, recollection?: Recollection): void
  /** The chunk is lent until the call returns. */
  onAnswerChunk(chunk: Uint8Array): void
  onAnswerEnd(trailers: RawFields): void
  onUpstreamFailure(failure: UpstreamFailure): void
  /** The upstream agreed to the upgrade; returns the fields of the 101 for the client. */
  onSwitch(fields: RawFields): string[]
  onTunnelEnd(bytesIn: number, bytesOut: number): void
}

/** One origin, with its connections. */
export interface Target {
  /** `host` or `host:port`, as it stands in a Host field. */
  readonly host: string
  send(request: UpstreamRequest, handler: UpstreamHandler): UpstreamStream
  openTunnel(request: UpstreamRequest, client: UpgradedSocket, handler: UpstreamHandler): TunnelStream
  /** Closes idle connections now and the others when they fall idle; resolves when none is left. */
  close(): Promise<void>
}
