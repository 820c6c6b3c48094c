import { constants, type ServerHttp2Stream } from 'node:http2'
import type {
  ClientFault,
  ClientHandler,
  ClientStream,
  FrontHandler,
  RawFields,
  SteadyFields,
  WholeAnswer,
} from '../../ports/transport.ts'
import { listFields } from '../message-fields.ts'
import { Deadline, type Timed, type TimerWheel } from '../timer-wheel.ts'
import { toResponseFields, toTrailerFields } from './http2-fields.ts'
import type { Http2Request } from './http2-request.ts'

const { NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR } = constants

/** How long a request body may take before its average counts. */
const RATE_GRACE_MS = 10_000

/** What a stream needs of its connection. */
export interface Http2StreamOwner {
  readonly peerAddress: string
  /** Something of an answer was sent. */
  onProgress(): void
  /** The stream is over; `wasReset`: by the client, before its answer was complete. */
  onStreamClosed(wasReset: boolean): void
}

export interface Http2StreamState {
  readonly handler: FrontHandler
  readonly timers: TimerWheel
  readonly idleMs: number
  readonly bodyMs: number
  readonly bodyBytesPerSecondMin: number
  isDraining: boolean
}

/** One request of HTTP/2 and its answer. What goes wrong ends the stream, not the connection. */
export class Http2ClientStream implements ClientStream, Timed {
  readonly method: string
  readonly target: string
  readonly httpVersion: '2.0' | 'other'
  readonly rawHeaders: RawFields
  readonly recollection = undefined
  readonly isScreened = false
  readonly hasUnmeasuredBody: boolean
  readonly peerAddress: string
  readonly protocol = 'https'
  readonly upgraded = undefined
  readonly #state: Http2StreamState
  readonly #owner: Http2StreamOwner
  readonly #stream: ServerHttp2Stream
  readonly #deadline: Deadline = new Deadline(this)
  readonly #expectsContinue: boolean
  #handler: ClientHandler | undefined = undefined
  #isRequestDone: boolean
  #isBodyStarted = false
  #bodyBytes = 0
  /** How long the body was waited for, all in all; not while it is held back here. */
  #waitedMs = 0
  #waitingSince = -1
  #hasBodyEnded = false
  #requestTrailers: RawFields = []
  /** The head, and the first chunk, wait for the rest of this turn: an answer may end with either. */
  #heldFields: string[] | undefined = undefined
  #heldChunk: Buffer | undefined = undefined
  #trailers: RawFields = []
  #isHeadBegun = false
  #hasBody = true
  #isEnded = false
  #isBlocked = false
  /** We have closed the stream before its end. */
  #isCut = false
  #stallMs = 0

  constructor(
    state: Http2StreamState,
    owner: Http2StreamOwner,
    stream: ServerHttp2Stream,
    request: Http2Request,
    hasBody: boolean,
  ) {
    this.#state = state
    this.#owner = owner
    this.#stream = stream
    this.#expectsContinue = request.expectsContinue
    this.#isRequestDone = !hasBody
    this.method = request.method
    this.target = request.target
    this.httpVersion = request.httpVersion
    this.rawHeaders = request.rawHeaders
    this.hasUnmeasuredBody = hasBody && !request.hasContentLength
    this.peerAddress = owner.peerAddress
    stream.on('drain', () => this.#onDrain())
    stream.on('finish', () => this.#onFinish())
    stream.on('wantTrailers', () => this.#sendTrailers())
    stream.on('close', () => this.#onClose())
    if (hasBody) {
      stream.on('trailers', (_fields, _flags, raw) => this.#onTrailers(raw))
      // A body of nothing ends before anybody asks for it.
      stream.on('end', () => this.#onEnd())
    } else {
      stream.resume()
    }
  }

  bind(handler: ClientHandler): void {
    this.#handler = handler
  }

  // The exchange calls these.

  startBody(): void {
    if (this.#isBodyStarted || this.#isRequestDone || this.#stream.closed) return
    this.#isBodyStarted = true
    if (this.#expectsContinue && !this.#isHeadBegun) this.#stream.additionalHeaders({ ':status': 100 })
    this.#stream.on('data', (chunk: Buffer) => this.#onData(chunk))
    if (this.#hasBodyEnded) this.#endBody()
    else this.#armForBody()
  }

  pauseBody(): void {
    this.#stream.pause()
    this.#stopWaiting()
    if (!this.#isBlocked) this.#disarm()
  }

  resumeBody(): void {
    if (!this.#isBodyStarted || this.#isEnded) return
    this.#stream.resume()
    if (!this.#isBlocked) this.#armForBody()
  }

  sendInformation(status: number, fields: RawFields): void {
    if (this.#isHeadBegun || this.#stream.closed) return
    this.#stream.additionalHeaders({ ':status': status, ...toTrailerFields(fields) })
  }

  sendHead(status: number, steady: SteadyFields, fresh: RawFields, stallMs: number): void {
    if (this.#isHeadBegun) return
    this.#heldFields = toResponseFields(status, listFields({ steady, fresh }))
    this.#hasBody = this.method !== 'HEAD' && status !== 204 && status !== 304
    this.#isHeadBegun = true
    this.#stallMs = stallMs
    process.nextTick(flush, this)
  }

  sendChunk(chunk: Uint8Array): boolean {
    if (this.#isEnded || !this.#hasBody || this.#stream.closed || chunk.length === 0) return true
    const copy = Buffer.from(chunk)
    if (this.#heldFields !== undefined && this.#heldChunk === undefined) {
      this.#heldChunk = copy
      return true
    }
    this.flushHead()
    return this.#write(copy)
  }

  sendEnd(trailers: RawFields): void {
    if (this.#isEnded || this.#stream.closed) return
    const fields = this.#heldFields
    const hasTrailers = trailers.length > 0 && this.#hasBody
    if (hasTrailers) this.#trailers = trailers
    if (fields === undefined || hasTrailers) {
      this.flushHead()
      this.#end(undefined)
    } else {
      this.#heldFields = undefined
      this.#respond(fields, { endStream: this.#heldChunk === undefined })
      this.#end(this.#heldChunk)
    }
  }

  sendWhole(answer: WholeAnswer): void {
    if (this.#isEnded || this.#stream.closed) return
    this.#isHeadBegun = true
    const fields = toResponseFields(answer.status, listFields(answer))
    this.#respond(fields, { endStream: answer.body === '' })
    this.#end(answer.body === '' ? undefined : Buffer.from(answer.body, 'latin1'))
  }

  abort(): void {
    this.#cut(NGHTTP2_INTERNAL_ERROR)
  }

  release(): void {}

  // The connection and the timers call these.

  /** Sends what waited. More may follow, trailers last. */
  flushHead(): void {
    const fields = this.#heldFields
    if (fields === undefined || this.#stream.closed) return
    this.#heldFields = undefined
    const chunk = this.#heldChunk
    this.#heldChunk = undefined
    this.#respond(fields, this.#hasBody ? { waitForTrailers: true } : { endStream: true })
    if (chunk !== undefined) this.#write(chunk)
  }

  onDeadline(): void {
    if (this.#isBlocked || this.#isEnded) this.#cut(NGHTTP2_ENHANCE_YOUR_CALM)
    else this.#fault('request_timeout')
  }

  // The stream calls these.

  #onData(chunk: Buffer): void {
    this.#stopWaiting()
    this.#bodyBytes += chunk.length
    const bytesMin = (this.#state.bodyBytesPerSecondMin * this.#waitedMs) / 1000
    if (this.#waitedMs >= RATE_GRACE_MS && this.#bodyBytes < bytesMin) {
      this.#fault('request_timeout')
      return
    }
    if (!this.#isBlocked) this.#armForBody()
    if (!this.#isEnded) this.#handler?.onBodyChunk(chunk)
  }

  #onTrailers(raw: RawFields): void {
    this.#requestTrailers = raw
  }

  #onEnd(): void {
    // Node ends the body of a stream that was reset without an error as if it were complete.
    if (this.#isRequestDone || this.#stream.closed) return
    this.#hasBodyEnded = true
    if (this.#isBodyStarted) this.#endBody()
  }

  #endBody(): void {
    this.#isRequestDone = true
    this.#stopWaiting()
    if (!this.#isBlocked) this.#disarm()
    if (!this.#isEnded) this.#handler?.onBodyEnd(this.#requestTrailers)
  }

  #onDrain(): void {
    if (!this.#isBlocked) return
    this.#isBlocked = false
    this.#armForBody()
    if (!this.#isEnded) this.#handler?.onClientDrain()
  }

  /** The answer has left. What the client still sends is of no use to anybody (RFC 9113 section 8.1). */
  #onFinish(): void {
    this.#disarm()
    if (!this.#isRequestDone && !this.#hasBodyEnded) this.#stream.close(NGHTTP2_NO_ERROR)
  }

  #onClose(): void {
    this.#deadline.release()
    this.#heldFields = undefined
    const isComplete = this.#isEnded && !this.#isCut && this.#stream.rstCode === NGHTTP2_NO_ERROR
    this.#owner.onStreamClosed(!isComplete && !this.#isCut)
    if (isComplete) this.#handler?.onAnswerSent()
    else this.#handler?.onClientGone()
  }

  #respond(fields: string[], options: { endStream?: boolean; waitForTrailers?: boolean }): void {
    this.#owner.onProgress()
    try {
      this.#stream.respond(fields, options)
    } catch {
      this.#cut(NGHTTP2_INTERNAL_ERROR)
    }
  }

  #write(chunk: Buffer): boolean {
    if (this.#stream.closed) return true
    this.#owner.onProgress()
    if (this.#stream.write(chunk)) return true
    this.#isBlocked = true
    this.#state.timers.arm(this.#deadline, this.#stallMs)
    return false
  }

  #end(chunk: Buffer | undefined): void {
    this.#isEnded = true
    if (this.#stream.closed) return
    if (chunk === undefined) this.#stream.end()
    else this.#stream.end(chunk)
    if (!this.#stream.writableFinished) {
      this.#state.timers.arm(this.#deadline, this.#stallMs > 0 ? this.#stallMs : this.#state.idleMs)
    }
  }

  #sendTrailers(): void {
    try {
      this.#stream.sendTrailers(toTrailerFields(this.#trailers))
    } catch {
      this.#cut(NGHTTP2_INTERNAL_ERROR)
    }
  }

  /** Tells the handler that the rest of the request is unusable. */
  #fault(code: ClientFault): void {
    if (this.#isEnded) this.#cut(NGHTTP2_ENHANCE_YOUR_CALM)
    else this.#handler?.onClientFault(code)
  }

  #cut(code: number): void {
    this.#isCut = true
    this.#stream.close(code)
  }

  #armForBody(): void {
    if (!this.#isBodyStarted || this.#isRequestDone || this.#isEnded || this.#stream.isPaused()) {
      if (!this.#isEnded) this.#disarm()
      return
    }
    this.#state.timers.arm(this.#deadline, this.#state.bodyMs)
    if (this.#waitingSince < 0) this.#waitingSince = performance.now()
  }

  #stopWaiting(): void {
    if (this.#waitingSince < 0) return
    this.#waitedMs += performance.now() - this.#waitingSince
    this.#waitingSince = -1
  }

  #disarm(): void {
    this.#state.timers.disarm(this.#deadline)
  }
}

function flush(stream: Http2ClientStream): void {
  stream.flushHead()
}
