import type {
  ClientFault,
  ClientHandler,
  ClientStream,
  RawFields,
  Recollection,
  SteadyFields,
  UpgradedSocket,
  WholeAnswer,
} from '../../ports/transport.ts'
import { BodyReader } from '../http1/body-reader.ts'
import { assertLines, encodeFields, encodeSteady } from '../http1/encode.ts'
import { writeLatin1 } from '../http1/latin1.ts'
import type { RequestParser } from '../http1/request-parser.ts'
import { type AnswerFraming, encodeAnswerHead, toAnswerFraming } from './raw-answer-head.ts'
import { encodeWhole, hold, type RawFrontState, type RawStreamOwner, toStatusLine } from './raw-state.ts'

/**
 * What is still read of a request body after its answer, so that a client that is still sending
 * gets to see the answer before the connection goes.
 */
export const LINGER_BYTES_MAX = 64 * 1024
export const LINGER_MS = 1000

/** How long a request body may take before its average counts. */
const RATE_GRACE_MS = 10_000

/** Up to this size, what is to be sent is gathered as text, which is the cheapest to write. */
const TEXT_LENGTH_MAX = 16 * 1024
/** From this size on, a body that is there as a whole is cheaper to copy than to make text of. */
const WHOLE_LENGTH_MIN = 256
const CONTINUE = 'HTTP/1.1 100 Continue\r\n\r\n'
const NO_BODY = BodyReader.ofLength(0)

/** One request of a raw connection and its answer. */
export class RawClientStream implements ClientStream {
  readonly method: string
  readonly target: string
  readonly httpVersion: '1.0' | '1.1'
  readonly rawHeaders: RawFields
  readonly recollection: Recollection | undefined
  readonly isScreened = true
  readonly hasUnmeasuredBody = false
  readonly peerAddress: string
  readonly protocol: 'http' | 'https'
  readonly upgraded: UpgradedSocket | undefined
  readonly body: BodyReader
  /** The connection ends with this exchange. */
  closes: boolean
  readonly #state: RawFrontState
  readonly #connection: RawStreamOwner
  readonly #expectsContinue: boolean
  #handler: ClientHandler | undefined = undefined
  #isRequestDone: boolean
  #isBodyStarted = false
  #isBodyPaused = false
  /** Nothing more of the request can be understood. */
  #isBroken = false
  /** The rest of the body is read for nothing. */
  #isDiscarding = false
  #discarded = 0
  #bodyBytes = 0
  /** How long the body was waited for, all in all; not while it is held back here. */
  #waitedMs = 0
  #waitingSince = -1
  #framing: AnswerFraming = 'none'
  #bytesLeft = 0
  /** What was not handed to the socket yet. */
  #text = ''
  #isHeld = false
  #isHeadBegun = false
  #isBlocked = false
  #isEnded = false
  /** The handler has had its last call, or gets it from `bind`. */
  #isOver = false
  #stallMs = 0

  constructor(
    state: RawFrontState,
    connection: RawStreamOwner,
    parser: RequestParser,
    upgraded: UpgradedSocket | undefined,
  ) {
    const { framing } = parser
    this.#state = state
    this.#connection = connection
    this.method = parser.method
    this.target = parser.target
    this.httpVersion = parser.minor === 0 ? '1.0' : '1.1'
    this.rawHeaders = parser.rawHeaders
    this.recollection = parser.recent?.recollection
    this.peerAddress = connection.peerAddress
    this.protocol = state.protocol
    this.upgraded = upgraded
    this.#expectsContinue = framing.expectsContinue && parser.minor === 1
    // What follows a CONNECT or an upgrade may be meant for another protocol.
    const mayFollowOther = framing.hasUpgrade || parser.method === 'CONNECT'
    this.closes = framing.wantsClose || parser.minor === 0 || mayFollowOther
    this.#isRequestDone = !framing.isChunked && framing.contentLength <= 0
    if (this.#isRequestDone) this.body = NO_BODY
    else this.body = framing.isChunked ? BodyReader.ofChunks() : BodyReader.ofLength(framing.contentLength)
  }

  bind(handler: ClientHandler): void {
    this.#handler = handler
    // It was answered while it was being accepted.
    if (this.#isOver) handler.onAnswerSent()
  }

  // The exchange calls these.

  startBody(): void {
    if (this.#isBodyStarted || this.#isOver || this.#isRequestDone) return
    this.#isBodyStarted = true
    if (this.#expectsContinue && !this.#isHeadBegun) this.#connection.write(CONTINUE)
    this.#armForBody()
    this.#connection.advance()
  }

  pauseBody(): void {
    this.#isBodyPaused = true
    this.#stopWaiting()
    if (!this.#isBlocked) this.#connection.disarm()
  }

  resumeBody(): void {
    if (!this.#isBodyPaused || this.#isEnded) return
    this.#isBodyPaused = false
    if (!this.#isBlocked) this.#armForBody()
    this.#connection.advance()
  }

  sendInformation(status: number, fields: RawFields): void {
    if (this.httpVersion === '1.0' || this.#isHeadBegun || this.#isOver) return
    const head = `${toStatusLine(status)}${encodeFields(fields)}\r\n`
    this.#connection.write(assertLines(head, fields.length / 2 + 2))
  }

  sendHead(status: number, steady: SteadyFields, fresh: RawFields, stallMs: number): void {
    if (this.#isOver || this.#isEnded) return
    const { contentLength } = encodeSteady(steady)
    const framing = toAnswerFraming(this, status, contentLength)
    const closes = this.closes || this.#state.isDraining || framing === 'close'
    this.#text += encodeAnswerHead(this.#state, status, steady, fresh, framing, closes)
    this.#framing = framing
    this.#bytesLeft = contentLength
    this.closes = closes
    this.#isHeadBegun = true
    this.#stallMs = stallMs
    this.#hold()
  }

  sendChunk(chunk: Uint8Array): boolean {
    if (this.#isOver || this.#isEnded || chunk.length === 0) return true
    if (this.#framing === 'none') return true
    if (this.#framing === 'length') {
      this.#bytesLeft -= chunk.length
      // More than was announced would be the next answer.
      if (this.#bytesLeft < 0) {
        this.abort()
        return true
      }
    }
    const isWhole = this.#framing === 'length' && this.#bytesLeft === 0 && chunk.length >= WHOLE_LENGTH_MIN
    if (isWhole || this.#text.length + chunk.length > TEXT_LENGTH_MAX) return this.#writeBytes(chunk)
    this.#text += this.#toChunkText(chunk)
    this.#hold()
    return !this.#isBlocked
  }

  sendEnd(trailers: RawFields): void {
    if (this.#isOver || this.#isEnded) return
    if (this.#framing === 'length' && this.#bytesLeft !== 0) {
      this.abort()
      return
    }
    if (this.#framing === 'chunked')
      this.#text += assertLines(`0\r\n${encodeFields(trailers)}\r\n`, trailers.length / 2 + 2)
    this.#end()
  }

  sendWhole(answer: WholeAnswer): void {
    if (this.#isOver || this.#isEnded) return
    if (answer.mustClose || this.#state.isDraining || this.#isRestUnwelcome()) this.closes = true
    this.#text += encodeWhole(this.#state, answer, this.closes)
    this.#isHeadBegun = true
    this.#end()
  }

  abort(): void {
    this.#connection.destroy()
  }

  release(): void {
    this.#isHeadBegun = true
    this.#isEnded = true
    this.#isOver = true
    this.#connection.detach()
  }

  // The connection calls these.

  /** Whether bytes of the body may be taken now. */
  get wantsBody(): boolean {
    if (this.#isRequestDone || this.#isBroken) return false
    return this.#isDiscarding || (this.#isBodyStarted && !this.#isBodyPaused && !this.#isEnded)
  }

  get isRequestDone(): boolean {
    return this.#isRequestDone
  }

  /** The body's reader has found something; whether it may go on. */
  onBodyEvent(bytes: Buffer): boolean {
    const { body } = this
    switch (body.event) {
      case 'more':
        return false
      case 'fault':
        this.fault('bad_request')
        return false
      case 'data':
        if (this.#isDiscarding) return this.#discard(body.dataEnd - body.dataStart)
        if (this.#isTooSlow(body.dataEnd - body.dataStart)) {
          this.fault('request_timeout')
          return false
        }
        if (!this.#isBlocked) this.#armForBody()
        this.#handler?.onBodyChunk(bytes.subarray(body.dataStart, body.dataEnd))
        return true
      case 'end':
        this.#isRequestDone = true
        if (!this.#isBlocked) this.#connection.disarm()
        if (this.#isDiscarding) this.#connection.free(this)
        else this.#handler?.onBodyEnd(body.trailers)
        return true
    }
  }

  /** Tells the handler that the rest of the request is unusable. */
  fault(code: ClientFault): void {
    if (this.#isBroken || this.#isEnded || this.#isOver) {
      this.abort()
      return
    }
    this.#isBroken = true
    this.closes = true
    this.#handler?.onClientFault(code)
  }

  flush(): void {
    if (!this.#isHeld) return
    this.#isHeld = false
    if (this.#text === '' || this.#isEnded || this.#isOver) return
    const text = this.#text
    this.#text = ''
    if (!this.#connection.write(text)) this.#block()
  }

  onDrain(): void {
    if (!this.#isBlocked) return
    this.#isBlocked = false
    if (this.#isEnded) {
      this.#settle()
      return
    }
    this.#armForBody()
    if (!this.#isOver) this.#handler?.onClientDrain()
  }

  onDeadline(): void {
    if (this.#isBlocked || this.#isDiscarding) this.abort()
    else this.fault('request_timeout')
  }

  onClose(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#text = ''
    this.#handler?.onClientGone()
  }

  goAway(): void {
    this.#handler?.onGoAway()
  }

  #hold(): void {
    if (this.#isHeld) return
    this.#isHeld = true
    hold(this.#state, this)
  }

  #block(): void {
    this.#isBlocked = true
    this.#connection.arm(this.#stallMs)
  }

  #armForBody(): void {
    if (!this.wantsBody) {
      this.#connection.disarm()
      return
    }
    this.#connection.arm(this.#state.bodyMs)
    if (this.#waitingSince < 0) this.#waitingSince = performance.now()
  }

  #stopWaiting(): void {
    if (this.#waitingSince < 0) return
    this.#waitedMs += performance.now() - this.#waitingSince
    this.#waitingSince = -1
  }

  /** Judges when something comes: who says nothing at all meets the limit of silence. */
  #isTooSlow(bytes: number): boolean {
    this.#stopWaiting()
    this.#bodyBytes += bytes
    const bytesMin = (this.#state.bodyBytesPerSecondMin * this.#waitedMs) / 1000
    return this.#waitedMs >= RATE_GRACE_MS && this.#bodyBytes < bytesMin && this.body.bytesLeft !== 0
  }

  #toChunkText(chunk: Uint8Array): string {
    const text = toBuffer(chunk).toString('latin1')
    return this.#framing === 'chunked' ? `${chunk.length.toString(16)}\r\n${text}\r\n` : text
  }

  /** Copies the chunk, which is lent, behind the text that waits, and writes both at once. */
  #writeBytes(chunk: Uint8Array): boolean {
    const isChunked = this.#framing === 'chunked'
    const before = isChunked ? `${this.#text}${chunk.length.toString(16)}\r\n` : this.#text
    const bytes = this.#state.room.take(before.length + chunk.length + (isChunked ? 2 : 0))
    writeLatin1(bytes, before, 0)
    bytes.set(chunk, before.length)
    if (isChunked) bytes.write('\r\n', bytes.length - 2, 'latin1')
    this.#text = ''
    if (this.#connection.write(bytes)) return true
    this.#block()
    return false
  }

  #end(): void {
    const text = this.#text
    this.#text = ''
    this.#isEnded = true
    if (text !== '' && !this.#connection.write(text)) this.#isBlocked = true
    if (this.#isBlocked) this.#connection.arm(this.#stallMs > 0 ? this.#stallMs : this.#state.idleMs)
    else this.#settle()
  }

  /** The answer has left. */
  #settle(): void {
    if (!this.#isOver) {
      this.#isOver = true
      this.#handler?.onAnswerSent()
    }
    if (this.#isRequestDone || this.#isBroken || this.closes) {
      this.#connection.free(this)
      return
    }
    this.#isDiscarding = true
    this.#connection.arm(LINGER_MS)
    this.#connection.advance()
  }

  /** Stops reading where it is too much, but leaves the client its time to see the answer. */
  #discard(bytes: number): boolean {
    this.#discarded += bytes
    if (this.#discarded <= LINGER_BYTES_MAX) return true
    this.#isBroken = true
    return false
  }

  /** Whether what is left of the request is better not waited for. */
  #isRestUnwelcome(): boolean {
    if (this.#isRequestDone) return false
    const isUnasked = this.#expectsContinue && !this.#isBodyStarted
    return isUnasked || this.body.isChunked || this.body.bytesLeft > LINGER_BYTES_MAX
  }
}

function toBuffer(bytes: Uint8Array): Buffer {
  return bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}
