import {
  constants,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2'
import type { TLSSocket } from 'node:tls'
import type { RawFields } from '../../ports/transport.ts'
import { listFields } from '../message-fields.ts'
import { Deadline, type Timed, TimerWheel } from '../timer-wheel.ts'
import type { FrontOptions } from './front-options.ts'
import { Http2ClientStream, type Http2StreamOwner, type Http2StreamState } from './http2-client-stream.ts'
import { toResponseFields } from './http2-fields.ts'
import { type Http2CutOff, Http2Guard, NGHTTP2_LIMITS } from './http2-guard.ts'
import { readHttp2Request } from './http2-request.ts'
import { Roster } from './roster.ts'

const { NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_FLAG_END_STREAM, NGHTTP2_NO_ERROR } = constants

const STREAMS_MAX = 100
/** Of request bodies, not yet taken by the upstream; of a connection, as far as nobody has read it. */
const STREAM_WINDOW_BYTES = 64 * 1024
const CONNECTION_WINDOW_BYTES = 1024 * 1024
/** How long a client may take to close a connection that it was told to close. */
const GOODBYE_MS = 1000

/** The connections of a listener that speak HTTP/2, on node:http2. */
export class Http2Front {
  readonly #options: FrontOptions
  readonly #state: Http2StreamState
  readonly #sessions = new Roster<Http2Connection>()
  #isClosing = false

  constructor(options: FrontOptions) {
    this.#options = options
    this.#state = {
      handler: options.handler,
      timers: new TimerWheel(),
      idleMs: options.idleTimeoutMs,
      bodyMs: options.bodyTimeoutMs,
      bodyBytesPerSecondMin: options.bodyBytesPerSecondMin,
      isDraining: false,
    }
  }

  /** A client has chosen `h2` in its handshake. */
  take(socket: TLSSocket): void {
    const connection = new Http2Connection(socket, this.#options, this.#state)
    this.#sessions.add(connection)
    socket.once('close', () => this.#sessions.delete(connection))
    if (this.#isClosing) connection.end()
  }

  /**
   * Tells the clients that are there to go, and those that still come once they have asked for
   * something. What has come is finished; what has not may be asked elsewhere (RFC 9113 section 6.8).
   */
  drain(): void {
    if (this.#state.isDraining) return
    this.#state.isDraining = true
    for (const connection of this.#sessions) connection.end()
  }

  /** The same, also for those that have asked for nothing yet. */
  close(): void {
    this.#isClosing = true
    for (const connection of this.#sessions) connection.end()
  }
}

class Http2Connection implements Timed, Http2StreamOwner {
  readonly peerAddress: string
  readonly #options: FrontOptions
  readonly #state: Http2StreamState
  readonly #session: ServerHttp2Session
  readonly #guard = new Http2Guard()
  readonly #deadline: Deadline = new Deadline(this)
  #streams = 0
  #cutOff: Http2CutOff | undefined = undefined
  #error: unknown = undefined

  constructor(socket: TLSSocket, options: FrontOptions, state: Http2StreamState) {
    this.#options = options
    this.#state = state
    this.peerAddress = socket.remoteAddress ?? ''
    const { headerBytesMax, headLimits } = options
    this.#session = performServerHandshake(socket, {
      ...NGHTTP2_LIMITS,
      // What is a little beyond gets a proper answer, what is far beyond no more than a reset.
      maxHeaderListPairs: 2 * headLimits.headersMax + 16,
      settings: {
        maxConcurrentStreams: STREAMS_MAX,
        maxHeaderListSize: 2 * headerBytesMax + 64 * headLimits.headersMax,
        initialWindowSize: STREAM_WINDOW_BYTES,
        enableConnectProtocol: false,
      },
    })
    this.#listen(this.#session)
    state.timers.arm(this.#deadline, options.headersTimeoutMs)
  }

  /** Takes no new stream; goes when those that run are done. */
  end(): void {
    this.#session.close()
  }

  // Streams call these.

  onProgress(): void {
    this.#guard.onProgress()
  }

  onStreamClosed(wasReset: boolean): void {
    this.#streams--
    if (wasReset && this.#guard.countReset()) this.#cut('resets')
    else if (this.#streams === 0) this.#state.timers.arm(this.#deadline, this.#options.idleTimeoutMs)
  }

  // The timers call this.

  onDeadline(): void {
    if (this.#session.closed) {
      this.#session.destroy()
      return
    }
    this.#session.close()
    this.#state.timers.arm(this.#deadline, GOODBYE_MS)
  }

  #listen(session: ServerHttp2Session): void {
    session.on('connect', () => session.setLocalWindowSize(CONNECTION_WINDOW_BYTES))
    session.on('stream', (stream, _fields, flags, raw) => this.#onStream(stream, flags, raw))
    session.on('ping', () => this.#onControlFrame())
    session.on('remoteSettings', () => this.#onControlFrame())
    session.on('error', (error) => {
      this.#error = error
    })
    session.on('close', () => {
      this.#deadline.release()
      const reason =
        this.#cutOff ?? (this.#error === undefined ? undefined : this.#guard.explain(this.#error))
      if (reason !== undefined) this.#options.onCutOff(reason)
    })
  }

  #onStream(stream: ServerHttp2Stream, flags: number, raw: RawFields): void {
    this.#streams++
    this.#state.timers.disarm(this.#deadline)
    stream.on('error', ignore)
    if (stream.closed || stream.destroyed) {
      // Reset before anybody looked at it: it never was a request.
      this.onStreamClosed(true)
      return
    }
    const request = readHttp2Request(raw)
    const hasBody = (flags & NGHTTP2_FLAG_END_STREAM) === 0
    if (request.headerBytes > this.#options.headerBytesMax) {
      this.#refuseLarge(stream)
      return
    }
    const client = new Http2ClientStream(this.#state, this, stream, request, hasBody)
    client.bind(this.#state.handler.accept(client))
    if (this.#state.isDraining) this.end()
  }

  #refuseLarge(stream: ServerHttp2Stream): void {
    const answer = this.#state.handler.refuse('headers_too_large', this.peerAddress)
    stream.on('close', () => this.onStreamClosed(false))
    stream.on('finish', () => stream.close(NGHTTP2_NO_ERROR))
    stream.respond(toResponseFields(answer.status, listFields(answer)))
    stream.end(answer.body)
    stream.resume()
  }

  #onControlFrame(): void {
    if (this.#guard.countControlFrame()) this.#cut('control_frames')
  }

  #cut(reason: Http2CutOff): void {
    if (this.#session.destroyed) return
    this.#cutOff = reason
    this.#session.destroy(new Error(`cut off: ${reason}`), NGHTTP2_ENHANCE_YOUR_CALM)
  }
}

function ignore(): void {}
