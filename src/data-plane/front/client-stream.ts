import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type {
  ClientFault,
  ClientHandler,
  RawFields,
  SteadyFields,
  UpgradedSocket,
  WholeAnswer,
} from '../../ports/transport.ts'
import { listFields } from '../message-fields.ts'
import { addTrailers, announcesBody, announcesMore, dropLoneTrailer, toHttpVersion } from './answer-fields.ts'
import { type Connection, type FrontState, type FrontStream, TICK_MS } from './connection.ts'
import { hold, listen, listenToBody } from './stream-listeners.ts'

/**
 * What is still read of a request body after its answer, so that a client that is still sending
 * gets to see the answer before the connection goes.
 */
const LINGER_BYTES_MAX = 64 * 1024
const LINGER_MS = 1000

/** How long a request body may take before its average counts. */
const RATE_GRACE_MS = 10_000

/** How long a client may refuse to take an answer of the gateway itself. */
const STALL_MS = 30_000

/** One request of node:http and its answer. */
export class NodeClientStream implements FrontStream {
  readonly method: string
  readonly target: string
  readonly httpVersion: '1.0' | '1.1' | 'other'
  readonly rawHeaders: RawFields
  readonly recollection = undefined
  readonly isScreened = false
  readonly hasUnmeasuredBody = false
  readonly peerAddress: string
  readonly protocol: 'http' | 'https'
  readonly upgraded: UpgradedSocket | undefined
  readonly isLast: boolean
  readonly #state: FrontState
  readonly #connection: Connection | undefined
  readonly #socket: Socket
  readonly #request: IncomingMessage
  readonly #answer: ServerResponse
  readonly #expectsContinue: boolean
  /** Node says only later that a request without a body is complete. */
  readonly #hasBody: boolean
  #handler: ClientHandler | undefined
  #heldChunk: Uint8Array | undefined
  #isHeadHeld = false
  #isHeadBegun = false
  #isBodyStarted = false
  #isBodyPaused = false
  /** Nothing more of the request can be understood. */
  #isBroken = false
  #isEnded = false
  /** The answer is complete but for its last chunk, so that Node does not close the connection yet. */
  #isEndHeld = false
  /** The answer is complete, and the client was told that nothing more comes. */
  #isFinSent = false
  #isLingering = false
  /** The handler has had its last call. */
  #isOver = false
  #hasLeft = false
  #isReleased = false
  #closes = false
  #stallMs = STALL_MS
  #quietMs = 0
  /** How long the client's body was waited for, all in all; not while it is held back here. */
  #bodyWaitMs = 0
  #bodyBytes = 0
  #lingerBytes = 0

  constructor(
    state: FrontState,
    connection: Connection | undefined,
    request: IncomingMessage,
    answer: ServerResponse,
    options: {
      readonly expectsContinue: boolean
      readonly protocol: 'http' | 'https'
      readonly upgraded: UpgradedSocket | undefined
    },
  ) {
    this.#state = state
    this.#connection = connection
    this.#socket = request.socket
    this.#request = request
    this.#answer = answer
    this.#expectsContinue = options.expectsContinue
    this.protocol = options.protocol
    this.upgraded = options.upgraded
    this.method = request.method ?? ''
    this.target = request.url ?? ''
    this.httpVersion = toHttpVersion(request)
    this.rawHeaders = request.rawHeaders
    this.#hasBody = connection !== undefined && announcesBody(request.rawHeaders)
    // Node drops what came right behind such a request, and would go on somewhere in the middle.
    this.isLast = connection !== undefined && request.headers.upgrade !== undefined
    this.#closes = this.isLast
    this.peerAddress = request.socket.remoteAddress ?? ''
    listen(request, answer, this)
  }

  bind(handler: ClientHandler): void {
    this.#handler = handler
  }

  get isRequestDone(): boolean {
    return !this.#hasBody || this.#request.complete
  }

  startBody(): void {
    if (this.#isBodyStarted || this.#isOver) return
    if (this.#expectsContinue && !this.#isHeadBegun) this.#answer.writeContinue()
    this.#readBody()
  }

  pauseBody(): void {
    this.#isBodyPaused = true
    this.#request.pause()
  }

  resumeBody(): void {
    if (!this.#isBodyPaused || this.#isEnded) return
    this.#isBodyPaused = false
    this.#quietMs = 0
    this.#state.watched.add(this)
    this.#request.resume()
  }

  sendInformation(status: number, fields: RawFields): void {
    // Node has `writeInformation` from 24.18 on; older ones drop the message, as they may.
    if (this.httpVersion === '1.0' || this.#isHeadBegun || !('writeInformation' in this.#answer)) return
    this.#answer.writeInformation(status, fields)
  }

  sendHead(status: number, steady: SteadyFields, fresh: RawFields, stallMs: number): void {
    if (this.#isOver || this.#isEnded) return
    this.#writeHead(status, listFields({ steady, fresh }))
    this.#stallMs = stallMs
    this.#isHeadHeld = true
    hold(this.#state, this)
  }

  sendChunk(lent: Uint8Array): boolean {
    if (this.#isOver || this.#isEnded) return true
    // Node keeps what it cannot write at once.
    const chunk = Buffer.from(lent)
    if (this.#isHeadHeld && this.#heldChunk === undefined) {
      this.#heldChunk = chunk
      return true
    }
    this.flushHead()
    return this.#write(chunk)
  }

  sendEnd(trailers: RawFields): void {
    if (this.#isOver || this.#isEnded) return
    if (trailers.length > 0) addTrailers(this.#answer, trailers)
    const chunk = this.#heldChunk
    this.#isHeadHeld = false
    this.#heldChunk = undefined
    this.#end(chunk)
  }

  sendWhole(answer: WholeAnswer): void {
    if (this.#isOver || this.#isEnded) return
    if (answer.mustClose) this.#closes = true
    // What is left of a body this large would not be read to its end anyway.
    if (!this.isRequestDone && announcesMore(this.rawHeaders, LINGER_BYTES_MAX)) this.#closes = true
    this.#writeHead(answer.status, listFields(answer))
    this.#end(answer.body === '' ? undefined : Buffer.from(answer.body, 'latin1'))
  }

  abort(): void {
    this.#socket.destroy()
  }

  release(): void {
    this.#isReleased = true
    this.#isHeadBegun = true
    this.#isEnded = true
    this.#isOver = true
    this.#answer.detachSocket(this.#socket)
  }

  flushHead(): void {
    if (!this.#isHeadHeld) return
    this.#isHeadHeld = false
    const chunk = this.#heldChunk
    this.#heldChunk = undefined
    if (chunk === undefined) this.#answer.flushHeaders()
    else this.#write(chunk)
  }

  fault(code: ClientFault): void {
    if (this.#isEnded || this.#isOver) {
      this.#endLinger()
      return
    }
    if (this.#isBroken) return
    this.#isBroken = true
    this.#closes = true
    this.#handler?.onClientFault(code)
  }

  goAway(): void {
    this.#handler?.onGoAway()
  }

  onTick(): void {
    this.#quietMs += TICK_MS
    const quietMs = this.#quietMs - TICK_MS
    if (this.#socket.destroyed) {
      this.#state.watched.delete(this)
    } else if (this.#isLingering) {
      if (quietMs >= LINGER_MS) this.#socket.destroy()
    } else if (this.#isWaitingForBody()) {
      this.#bodyWaitMs += TICK_MS
      const isSilent = this.#state.bodyMs > 0 && quietMs >= this.#state.bodyMs
      if (isSilent || this.#isBodyTooSlow()) this.fault('request_timeout')
    } else {
      this.#state.watched.delete(this)
    }
  }

  // The listeners below call these.

  onData(chunk: Buffer): void {
    if (!this.#isEnded && !this.#isOver) {
      this.#quietMs = 0
      this.#bodyBytes += chunk.length
      this.#handler?.onBodyChunk(chunk)
      return
    }
    this.#lingerBytes += chunk.length
    // Stops reading, but leaves the client the rest of the second to see the answer.
    if (this.#lingerBytes > LINGER_BYTES_MAX) this.#request.pause()
  }

  onRequestEnd(): void {
    if (!this.#isEnded && !this.#isOver) this.#handler?.onBodyEnd(this.#request.rawTrailers)
    else if (this.#isFinSent) this.#socket.destroySoon()
    else if (this.#isEndHeld) this.#answer.end()
    else this.#leave()
  }

  onDrain(): void {
    if (this.#isEnded || this.#isOver) return
    this.#socket.setTimeout(0)
    this.#handler?.onClientDrain()
  }

  onFinish(): void {
    this.#answered()
    if (this.#connection === undefined) this.#sayGoodbye()
    else this.#leave()
  }

  /** Only sockets that Node has given away need this; it cuts the others itself. */
  onStall(): void {
    if (!this.#isReleased) this.#socket.destroy()
  }

  /** Node says so for every answer: when it is complete, or when the connection is gone before. */
  onClose(): void {
    if (!this.#isLingering) this.#state.watched.delete(this)
    if (this.#isOver) return
    this.#isOver = true
    this.#handler?.onClientGone()
  }

  #readBody(): void {
    this.#isBodyStarted = true
    this.#quietMs = 0
    this.#state.watched.add(this)
    listenToBody(this.#request)
  }

  #isWaitingForBody(): boolean {
    return this.#isBodyStarted && !this.#isBodyPaused && !this.#isEnded && !this.#request.complete
  }

  #isBodyTooSlow(): boolean {
    const bytesMin = (this.#state.bodyBytesPerSecondMin * this.#bodyWaitMs) / 1000
    return this.#bodyWaitMs >= RATE_GRACE_MS && this.#bodyBytes < bytesMin
  }

  #writeHead(status: number, fields: string[]): void {
    const isClosing = this.#closes || this.#state.isDraining
    if (isClosing) fields.push('Connection', 'close')
    const kept = dropLoneTrailer(fields, this.httpVersion, this.method, status)
    this.#answer.writeHead(status, STATUS_CODES[status] ?? 'Unknown', kept)
    if (isClosing || !this.#answer.shouldKeepAlive) this.#closes = true
    this.#isHeadBegun = true
  }

  #write(chunk: Uint8Array): boolean {
    if (this.#answer.write(chunk)) return true
    // Node destroys the socket then, unless some of what waits has gone out in the meantime.
    this.#socket.setTimeout(this.#stallMs)
    return false
  }

  #end(chunk: Uint8Array | undefined): void {
    this.#isEnded = true
    const isRequestDone = this.isRequestDone || this.#isBroken
    if (!isRequestDone) this.#linger()
    if (isRequestDone || !this.#closes) {
      this.#answer.end(chunk)
      // What the client has not taken yet; when it has, Node sets its own timeout.
      if (this.#socket.writableLength > 0) this.#socket.setTimeout(this.#stallMs)
      return
    }
    // Node would close the socket under the client's unread bytes, and the reset could overtake
    // the answer. So only our direction is closed, until the rest of the request was read.
    if (chunk === undefined) this.#answer.flushHeaders()
    else this.#answer.write(chunk)
    if (this.#answer.chunkedEncoding) {
      this.#isEndHeld = true
    } else {
      this.#isFinSent = true
      this.#socket.end()
    }
    process.nextTick(() => this.#answered())
  }

  #linger(): void {
    this.#isLingering = true
    this.#quietMs = 0
    if (!this.#isBodyStarted) this.#readBody()
    this.#state.watched.add(this)
    this.#isBodyPaused = false
    this.#request.resume()
  }

  /** What came behind the request is void; as long as it is not read, the socket cannot end. */
  #sayGoodbye(): void {
    this.#isLingering = true
    this.#quietMs = 0
    this.#state.watched.add(this)
    this.#socket.end()
    this.#socket.resume()
  }

  /** The rest of the request cannot be read: all there is left to do is to let the answer arrive. */
  #endLinger(): void {
    if (this.#isFinSent && !this.#socket.readableEnded) return
    if (this.#isEndHeld) this.#answer.end()
    else this.#socket.destroySoon()
  }

  #answered(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#handler?.onAnswerSent()
  }

  /** Makes way for the next request once this one is read and answered. */
  #leave(): void {
    if (this.#hasLeft || !this.isRequestDone || !this.#answer.writableFinished) return
    this.#hasLeft = true
    this.#isLingering = false
    this.#state.watched.delete(this)
    this.#connection?.free()
  }
}
