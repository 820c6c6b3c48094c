import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2'
import { connect as connectPlain } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { ANSWER_HEAD_BYTES_MAX, UpstreamFault } from './failures.ts'
import { type Origin, toTlsOptions } from './origin.ts'

/** Of a connection, where the target allows more. */
const STREAMS_MAX = 100
const ANSWER_FIELDS_MAX = 1000
/** A connection without requests is closed after this. */
const IDLE_MS = 60_000
/** A target that left a request unanswered has this long to show that the connection is alive. */
const PING_MS = 5_000
const NOT_HTTP2 = 'the target does not speak HTTP/2 (it did not choose h2 by ALPN)'
/** Of an alert of TLS, in the words of OpenSSL. */
const NO_COMMON_PROTOCOL = /alert no application protocol/

/** One who waits for the connection to stand. */
export interface LinkUser {
  onLink(link: Http2Link): void
  /** It never stood. */
  onNoLink(error: Error): void
}

/** One connection of HTTP/2 to a target: by ALPN with TLS, with prior knowledge without. */
export class Http2Link {
  streams = 0
  /** Requests begun on it. */
  requests = 0
  isConnected = false
  /** Why it ended, where it did not end well. */
  error: Error | undefined = undefined
  readonly #session: ClientHttp2Session
  readonly #waiting = new Set<LinkUser>()
  #isProbed = false

  constructor(origin: Origin, onClosed: (link: Http2Link) => void) {
    this.#session = connect(origin.url, {
      createConnection: () => openSocket(origin),
      maxHeaderListPairs: ANSWER_FIELDS_MAX,
      settings: { enablePush: false, maxHeaderListSize: ANSWER_HEAD_BYTES_MAX },
    })
    this.#session.on('error', (error) => {
      this.error ??= NO_COMMON_PROTOCOL.test(error.message) ? new UpstreamFault(NOT_HTTP2) : error
    })
    this.#session.on('connect', (session) => this.#onConnect(session, origin))
    this.#session.on('close', () => {
      onClosed(this)
      const error = this.error ?? new UpstreamFault('connection closed')
      for (const user of this.#waiting) user.onNoLink(error)
      this.#waiting.clear()
    })
    this.#session.setTimeout(IDLE_MS, () => {
      if (this.streams === 0) this.#session.close()
    })
  }

  /** Whether it may take another request. */
  get hasRoom(): boolean {
    if (this.#session.closed || this.#session.destroyed || this.#isProbed) return false
    const { maxConcurrentStreams = STREAMS_MAX } = this.isConnected ? this.#session.remoteSettings : {}
    return this.streams + this.#waiting.size < Math.min(maxConcurrentStreams, STREAMS_MAX)
  }

  get isGone(): boolean {
    return this.#session.destroyed
  }

  await(user: LinkUser): void {
    this.#waiting.add(user)
  }

  forget(user: LinkUser): void {
    this.#waiting.delete(user)
  }

  request(fields: readonly string[], hasBody: boolean): ClientHttp2Stream {
    const stream = this.#session.request(fields, { endStream: !hasBody, waitForTrailers: hasBody })
    this.requests++
    this.streams++
    stream.once('close', () => this.streams--)
    return stream
  }

  /** A request got no answer: asks whether anybody is there, and takes no more before that is known. */
  probe(): void {
    if (this.#isProbed || this.#session.closed || this.#session.destroyed) return
    this.#isProbed = true
    const timer = setTimeout(() => this.destroy(), PING_MS).unref()
    this.#session.ping(() => {
      clearTimeout(timer)
      this.#isProbed = false
    })
  }

  /** Lets running requests finish. */
  close(): void {
    this.#session.close()
  }

  destroy(error: Error = new UpstreamFault('connection given up')): void {
    this.#session.destroy(error, constants.NGHTTP2_CANCEL)
  }

  #onConnect(session: ClientHttp2Session, origin: Origin): void {
    if (origin.isTls && session.alpnProtocol !== 'h2') {
      session.destroy(new UpstreamFault(NOT_HTTP2))
      return
    }
    this.isConnected = true
    session.setLocalWindowSize(1024 * 1024)
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const user of waiting) user.onLink(this)
  }
}

function openSocket(origin: Origin) {
  const { address: host, port, servername } = origin
  if (!origin.isTls) return connectPlain({ host, port, noDelay: true })
  const socket = connectTls({ host, port, servername, ALPNProtocols: ['h2'], ...toTlsOptions(origin) })
  return socket.setNoDelay(true)
}
