import {
  createServer as createHttpServer,
  type IncomingMessage,
  type Server,
  type ServerOptions,
  ServerResponse,
} from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { type TLSSocket, Server as TlsServer } from 'node:tls'
import type { TlsMaterial } from '../../ports/tls.ts'
import type { ClientFault, Front } from '../../ports/transport.ts'
import { checkRequestHead, type HeadLimits } from '../request-check.ts'
import { toHttpVersion } from './answer-fields.ts'
import { NodeClientStream } from './client-stream.ts'
import { Connection, type FrontState, TICK_MS } from './connection.ts'
import { encodeAnswer } from './encode-answer.ts'
import type { FrontOptions } from './front-options.ts'
import { listenOn, toAddress, untilEmpty } from './listening.ts'
import { Http2Front } from './node-http2.ts'
import { untilNobodyComes } from './quiet-turn.ts'
import { Roster } from './roster.ts'
import { TlsTermination } from './tls.ts'

/** How long a socket that was told to go may take to read why. */
const GOODBYE_MS = 1000

/** Opens a listener of HTTP/1.1 on node:http. Rejects where the address cannot be bound. */
export async function openNodeFront(options: FrontOptions): Promise<Front> {
  const front = new NodeFront(options)
  await front.listen()
  return front
}

class NodeFront implements Front {
  readonly #options: FrontOptions
  readonly #tls: TlsTermination | undefined
  readonly #http2: Http2Front | undefined
  readonly #server: Server
  readonly #state: FrontState
  readonly #protocol: 'http' | 'https'
  /** Streams whose sockets Node no longer knows: upgrades and tunnels. */
  readonly #detached = new Map<Duplex, NodeClientStream>()
  /** Sockets that got a last answer, with the ticks they have left. */
  readonly #leaving = new Map<Duplex, number>()
  readonly #sockets = new Roster<Duplex>()
  readonly #ticker: NodeJS.Timeout

  constructor(options: FrontOptions) {
    this.#options = options
    this.#tls = options.tls && new TlsTermination(options.tls, options.http2)
    this.#http2 = options.http2 ? new Http2Front(options) : undefined
    this.#protocol = options.tls === undefined ? 'http' : 'https'
    this.#state = {
      handler: options.handler,
      bodyMs: options.bodyTimeoutMs,
      bodyBytesPerSecondMin: options.bodyBytesPerSecondMin,
      watched: new Roster(),
      held: [],
      isFlushScheduled: false,
      isDraining: false,
      isClosing: false,
      onIdle: () => setImmediate(() => this.#server.closeIdleConnections()),
    }
    this.#server = this.#createServer()
    this.#ticker = setInterval(() => this.#onTick(), TICK_MS)
    this.#ticker.unref()
  }

  get address(): { readonly host: string; readonly port: number } {
    return toAddress(this.#server)
  }

  async listen(): Promise<void> {
    try {
      await listenOn(this.#server, this.#options)
    } catch (error) {
      clearInterval(this.#ticker)
      throw error
    }
  }

  replaceTls(material: TlsMaterial): void {
    if (this.#server instanceof TlsServer) this.#tls?.replace(this.#server, material)
  }

  drain(): void {
    this.#state.isDraining = true
    this.#http2?.drain()
  }

  async close(graceMs: number): Promise<void> {
    this.drain()
    for (const stream of this.#detached.values()) stream.goAway()
    await untilNobodyComes([this.#server])
    this.#state.isClosing = true
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    for (const stream of this.#detached.values()) stream.goAway()
    this.#http2?.close()
    await untilEmpty(closed, this.#sockets, graceMs)
    clearInterval(this.#ticker)
  }

  #createServer(): Server {
    const { headersTimeoutMs, idleTimeoutMs, headerBytesMax, headLimits } = this.#options
    const options: ServerOptions = {
      insecureHTTPParser: false,
      // The pipeline checks Host; Node would answer in its own words.
      requireHostHeader: false,
      maxHeaderSize: headerBytesMax,
      headersTimeout: headersTimeoutMs,
      // Of the whole request: a long upload is no fault. Silence in a body is watched here.
      requestTimeout: 0,
      connectionsCheckingInterval: Math.min(1000, Math.max(50, Math.ceil(headersTimeoutMs / 2))),
      keepAliveTimeout: idleTimeoutMs,
      keepAliveTimeoutBuffer: Math.min(1000, idleTimeoutMs),
      noDelay: true,
      shouldUpgradeCallback: (request) => asksWebSocket(request, headLimits),
    }
    const server =
      this.#tls === undefined
        ? createHttpServer(options)
        : createHttpsServer({ ...options, ...this.#tls.toServerOptions(headersTimeoutMs) })
    // Node drops what is beyond; one more than allowed is enough to be refused.
    server.maxHeadersCount = headLimits.headersMax + 1
    server.timeout = 0
    this.#listen(server)
    if (this.#http2 !== undefined) divertHttp2(server, this.#http2)
    return server
  }

  #listen(server: Server): void {
    server.on('connection', (socket) => this.#watch(socket))
    server.on('secureConnection', (socket: Socket) => this.#watch(socket))
    server.on('request', (request, answer) => this.#take(request, answer, false))
    server.on('checkContinue', (request, answer) => this.#take(request, answer, true))
    server.on('checkExpectation', (request, answer) => this.#take(request, answer, false))
    server.on('upgrade', (request, socket, head) => this.#takeDetached(request, socket, head, true))
    server.on('connect', (request, socket, head) => this.#takeDetached(request, socket, head, false))
    server.on('clientError', (error, socket) => this.#onClientError(error, socket))
  }

  #watch(socket: Socket): void {
    this.#sockets.add(socket)
    this.#options.onConnections(1)
    socket.on('error', () => {})
    socket.once('close', () => {
      this.#options.onConnections(-1)
      this.#sockets.delete(socket)
      this.#detached.delete(socket)
      this.#leaving.delete(socket)
    })
  }

  #take(request: IncomingMessage, answer: ServerResponse, expectsContinue: boolean): void {
    const connection = this.#connectionOf(request.socket)
    const options = { expectsContinue, protocol: this.#protocol, upgraded: undefined }
    connection.take(new NodeClientStream(this.#state, connection, request, answer, options))
  }

  /** A request whose socket Node has given away: for a WebSocket, or a CONNECT that is refused. */
  #takeDetached(request: IncomingMessage, socket: Duplex, head: Buffer, isUpgrade: boolean): void {
    // Behind a request that has no answer yet: nobody does that in earnest.
    if (this.#connectionOf(socket).active !== undefined) {
      socket.destroy()
      return
    }
    const answer = new ServerResponse(request)
    answer.shouldKeepAlive = false
    answer.assignSocket(request.socket)
    const upgraded = isUpgrade ? { socket, head } : undefined
    const options = { expectsContinue: false, protocol: this.#protocol, upgraded }
    const stream = new NodeClientStream(this.#state, undefined, request, answer, options)
    this.#detached.set(socket, stream)
    socket.once('close', () => stream.onClose())
    socket.on('timeout', () => stream.onStall())
    stream.bind(this.#options.handler.accept(stream))
  }

  #onClientError(error: Error & { code?: string; rawPacket?: Buffer }, socket: Duplex): void {
    // The client listens to its last answer; what it still says is of no interest.
    if (this.#leaving.has(socket)) return
    if (!isAnswerable(error, socket)) {
      socket.destroy()
      return
    }
    const code = toFault(error, this.#options.headLimits)
    const connection = this.#connectionOf(socket)
    const { headersTimeoutMs } = this.#options
    const isLate = code === 'request_timeout'
    if (isLate && connection.excuseLateHead(headersTimeoutMs, () => this.#onClientError(error, socket)))
      return
    const active = connection.active
    if (active !== undefined && !active.isRequestDone) active.fault(code)
    else if (!socket.writable) socket.destroy()
    else connection.whenFree(() => this.#refuse(socket, code))
  }

  #refuse(socket: Duplex, code: ClientFault): void {
    const peerAddress = 'remoteAddress' in socket ? String(socket.remoteAddress) : ''
    const answer = this.#options.handler.refuse(code, peerAddress)
    this.#leaving.set(socket, Math.ceil(GOODBYE_MS / TICK_MS))
    socket.end(encodeAnswer(answer, Date.now()))
  }

  #connectionOf(socket: Duplex & { [CONNECTION]?: Connection }): Connection {
    socket[CONNECTION] ??= new Connection(socket, this.#state)
    return socket[CONNECTION]
  }

  #onTick(): void {
    for (const stream of this.#state.watched) stream.onTick()
    for (const [socket, ticks] of this.#leaving) {
      if (ticks <= 0) socket.destroy()
      else this.#leaving.set(socket, ticks - 1)
    }
  }
}

const CONNECTION: unique symbol = Symbol('connection')

function asksWebSocket(request: IncomingMessage, limits: HeadLimits): boolean {
  const { method = '', url: target = '', rawHeaders } = request
  const httpVersion = toHttpVersion(request)
  if (httpVersion === 'other') return false
  const head = checkRequestHead({ method, target, httpVersion, rawHeaders }, limits)
  return head.kind === 'head' && head.isWebSocket
}

/** Not on a broken connection, in failed TLS, to silence, or to one who left in mid-sentence. */
/** Connections on which the client has chosen HTTP/2 never reach Node's parser of HTTP/1.1. */
function divertHttp2(server: Server, http2: Http2Front): void {
  const listeners = server.listeners('secureConnection')
  server.removeAllListeners('secureConnection')
  server.on('secureConnection', (socket: TLSSocket) => {
    if (socket.alpnProtocol === 'h2') http2.take(socket)
    else for (const listener of listeners) listener.call(server, socket)
  })
}

function isAnswerable(error: { code?: string }, socket: Duplex): boolean {
  if (error.code === 'HPE_INVALID_EOF_STATE') return false
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'bytesRead' in socket && socket.bytesRead !== 0
  return error.code?.startsWith('HPE_') === true
}

function toFault(error: { code?: string; rawPacket?: Buffer }, limits: HeadLimits): ClientFault {
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'request_timeout'
  if (error.code !== 'HPE_HEADER_OVERFLOW') return 'bad_request'
  const lineBytes = error.rawPacket?.indexOf('\n') ?? 0
  return lineBytes < 0 || lineBytes > limits.targetBytesMax ? 'uri_too_long' : 'headers_too_large'
}
