import { type ClientHttp2Stream, constants } from 'node:http2'
import type {
  RawFields,
  Target,
  TunnelStream,
  UpgradedSocket,
  UpstreamHandler,
  UpstreamRequest,
  UpstreamStream,
} from '../../ports/transport.ts'
import { createTimeoutFault, INFORMATIONS_MAX, toFailureKind, UpstreamFault } from './failures.ts'
import { readAnswerFields, toRequestFields, toTrailers } from './http2-fields.ts'
import { Http2Link, type LinkUser } from './http2-link.ts'
import type { Origin } from './origin.ts'
import { type PermitHolder, Permits } from './permits.ts'
import { openTunnel } from './web-socket.ts'

const { NGHTTP2_CANCEL, NGHTTP2_FLAG_END_STREAM, NGHTTP2_REFUSED_STREAM } = constants

/** A target spoken to by HTTP/2, many requests to a connection. Opens no connection yet. */
export class Http2Target implements Target {
  readonly host: string
  readonly #origin: Origin
  readonly #permits: Permits
  readonly #links: Http2Link[] = []
  #isClosed = false

  constructor(origin: Origin, requestsMax: number) {
    this.host = origin.authority
    this.#origin = origin
    this.#permits = new Permits(requestsMax)
  }

  send(request: UpstreamRequest, handler: UpstreamHandler): UpstreamStream {
    const call = new Http2Call(this, this.#permits, request, handler)
    this.#permits.acquire(call)
    return call
  }

  /** WebSockets go by HTTP/1.1, as they do for clients. */
  openTunnel(request: UpstreamRequest, client: UpgradedSocket, handler: UpstreamHandler): TunnelStream {
    return openTunnel(this.#origin, request, client, handler)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await this.#permits.whenIdle()
    for (const link of this.#links) link.close()
  }

  /** The first connection with room, so that a quiet target keeps few; else a new one. */
  takeLink(needsFresh: boolean): Http2Link {
    const found = needsFresh ? undefined : this.#links.find((link) => link.hasRoom)
    if (found !== undefined) return found
    const link = new Http2Link(this.#origin, (closed) => {
      this.#links.splice(this.#links.indexOf(closed), 1)
    })
    this.#links.push(link)
    return link
  }

  get scheme(): 'http' | 'https' {
    return this.#origin.isTls ? 'https' : 'http'
  }

  /** The last request of a target that is closed closes its connections. */
  release(): void {
    this.#permits.release()
    if (this.#isClosed) for (const link of this.#links) if (link.streams === 0) link.close()
  }
}

type Phase = 'permit' | 'connection' | 'answer' | 'data'

class Http2Call implements UpstreamStream, PermitHolder, LinkUser {
  readonly waitMs: number
  readonly #target: Http2Target
  readonly #permits: Permits
  readonly #request: UpstreamRequest
  readonly #handler: UpstreamHandler
  readonly #hasBody: boolean
  #link: Http2Link | undefined
  #stream: ClientHttp2Stream | undefined
  #timer: NodeJS.Timeout | undefined
  #phase: Phase = 'permit'
  #isDone = false
  #isReused = false
  #hasAnswerByte = false
  #informations = 0
  /** Of the answer's body, where it was announced; else -1. */
  #bytesLeft = -1
  #requestTrailers: RawFields = []
  #answerTrailers: RawFields = []
  #error: Error | undefined

  constructor(target: Http2Target, permits: Permits, request: UpstreamRequest, handler: UpstreamHandler) {
    this.waitMs = request.connectMs
    this.#target = target
    this.#permits = permits
    this.#request = request
    this.#handler = handler
    this.#hasBody = request.isChunked || request.contentLength > 0
  }

  // The exchange calls these.

  writeBody(chunk: Uint8Array): boolean {
    if (this.#isDone || this.#stream === undefined) return true
    this.#timer?.refresh()
    return this.#stream.write(Buffer.from(chunk))
  }

  endBody(trailers: RawFields): void {
    if (this.#isDone || this.#stream === undefined) return
    this.#requestTrailers = trailers
    this.#timer?.refresh()
    this.#stream.end()
  }

  pause(): void {
    this.#stream?.pause()
  }

  resume(): void {
    this.#timer?.refresh()
    this.#stream?.resume()
  }

  abort(): void {
    if (!this.#isDone) this.#stop(NGHTTP2_CANCEL)
  }

  // The permits and the connection call these.

  onPermit(): void {
    const link = this.#target.takeLink(this.#request.needsFresh)
    this.#link = link
    this.#enter('connection', this.#request.connectMs)
    // Never from inside `send`: the exchange does not know of this call yet.
    if (link.isConnected) process.nextTick(() => this.onLink(link))
    else link.await(this)
  }

  onNoPermit(): void {
    if (this.#isDone) return
    this.#isDone = true
    const cause = 'no free connection'
    this.#handler.onUpstreamFailure({ kind: 'overloaded', isUnsent: true, isStale: false, cause })
  }

  onLink(link: Http2Link): void {
    if (this.#isDone) return
    this.#isReused = link.requests > 0
    try {
      this.#stream = link.request(toRequestFields(this.#request, this.#target.scheme), this.#hasBody)
    } catch (error) {
      // It was closed in the meantime, or the request is unfit for the wire.
      this.#fail(error, true)
      return
    }
    this.#enter('answer', this.#request.responseMs)
    this.#listen(this.#stream)
    if (this.#hasBody) this.#handler.onUpstreamReady()
  }

  onNoLink(error: Error): void {
    this.#fail(error, true)
  }

  #listen(stream: ClientHttp2Stream): void {
    stream.on('headers', (_fields, _flags, raw) => this.#onInformation(raw))
    stream.on('response', (_fields, flags, raw) => this.#onHead(flags, raw))
    stream.on('data', (chunk: Buffer) => this.#onData(chunk))
    stream.on('trailers', (_fields, _flags, raw) => {
      this.#answerTrailers = raw
    })
    stream.on('end', () => this.#onEnd())
    stream.on('drain', () => {
      if (!this.#isDone) this.#handler.onUpstreamDrain()
    })
    stream.on('wantTrailers', () => this.#sendTrailers(stream))
    stream.on('error', (error) => {
      this.#error = error
    })
    stream.on('close', () => this.#onClose(stream))
  }

  #onInformation(raw: RawFields): void {
    if (this.#isDone) return
    this.#hasAnswerByte = true
    const { status, fields } = readAnswerFields(raw)
    if (status === 100) return
    if (++this.#informations > INFORMATIONS_MAX)
      this.#fail(new UpstreamFault('too many informational answers'), false)
    else this.#handler.onInformation(status, fields)
  }

  #onHead(flags: number, raw: RawFields): void {
    if (this.#isDone) return
    this.#hasAnswerByte = true
    const { status, fields, contentLength } = readAnswerFields(raw)
    const isWhole = (flags & NGHTTP2_FLAG_END_STREAM) !== 0
    if (!isWhole && this.#request.method !== 'HEAD') this.#bytesLeft = contentLength
    this.#enter('data', this.#request.idleMs)
    this.#handler.onAnswerHead(status, fields)
    // In the same turn, so that a client that speaks HTTP/2 gets it as one frame too.
    if (isWhole) this.#complete()
  }

  #onData(chunk: Buffer): void {
    if (this.#isDone) return
    this.#timer?.refresh()
    if (this.#bytesLeft >= 0) this.#bytesLeft -= chunk.length
    this.#handler.onAnswerChunk(chunk)
  }

  #onEnd(): void {
    if (this.#isDone || this.#phase !== 'data') return
    // Node ends the body of a stream that was reset without an error as if it were complete.
    if (this.#bytesLeft > 0) this.#fail(new UpstreamFault('answer broken off'), false)
    else this.#complete()
  }

  #complete(): void {
    if (this.#isDone) return
    this.#isDone = true
    clearTimeout(this.#timer)
    // Answered before the request was complete: the rest of it will never be sent.
    if (this.#hasBody && this.#stream?.writableEnded !== true) this.#stream?.close(NGHTTP2_CANCEL)
    this.#target.release()
    this.#handler.onAnswerEnd(this.#answerTrailers)
  }

  #sendTrailers(stream: ClientHttp2Stream): void {
    try {
      stream.sendTrailers(toTrailers(this.#requestTrailers))
    } catch (error) {
      this.#fail(error, false)
    }
  }

  #onClose(stream: ClientHttp2Stream): void {
    const { rstCode } = stream
    const what = this.#link?.isGone === true ? 'connection closed' : `stream reset with code ${rstCode}`
    const error = this.#link?.error ?? this.#error ?? new UpstreamFault(what)
    this.#fail(error, rstCode === NGHTTP2_REFUSED_STREAM)
  }

  #enter(phase: Phase, limitMs: number): void {
    clearTimeout(this.#timer)
    this.#phase = phase
    this.#timer = limitMs > 0 ? setTimeout(() => this.#onTimeout(), limitMs) : undefined
  }

  #onTimeout(): void {
    const stream = this.#stream
    const isOurTurn =
      this.#phase === 'answer'
        ? this.#hasBody && stream?.writableEnded === false && !stream.writableNeedDrain
        : this.#phase === 'data' && stream?.isPaused() === true
    // The upstream is not to blame while it is the client that keeps everybody waiting.
    if (isOurTurn) {
      this.#timer?.refresh()
      return
    }
    const link = this.#link
    const fault = createTimeoutFault(this.#phase)
    if (this.#phase === 'answer') link?.probe()
    this.#fail(fault, this.#phase === 'connection')
    // Whoever came later shall not wait for what does not come.
    if (link?.isConnected === false) link.destroy(fault)
  }

  #fail(cause: unknown, isUnsent: boolean): void {
    if (this.#isDone) return
    const kind = toFailureKind(cause)
    const isStale =
      kind === 'unreachable' && this.#isReused && !this.#hasAnswerByte && this.#link?.error !== undefined
    this.#stop(NGHTTP2_CANCEL)
    this.#handler.onUpstreamFailure({ kind, isUnsent, isStale, cause })
  }

  #stop(code: number): void {
    this.#isDone = true
    clearTimeout(this.#timer)
    this.#link?.forget(this)
    this.#stream?.close(code)
    if (this.#phase === 'permit') this.#permits.cancel(this)
    else this.#target.release()
  }
}
