import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TLSSocket, Server as TlsServer } from 'node:tls'
import type { TlsMaterial } from '../../ports/tls.ts'
import type { Front } from '../../ports/transport.ts'
import { createReadBuffer } from '../http1/read-buffer.ts'
import { RequestParser } from '../http1/request-parser.ts'
import { WriteRoom } from '../http1/write-room.ts'
import { TimerWheel } from '../timer-wheel.ts'
import type { FrontOptions } from './front-options.ts'
import { lendReads } from './lent-reads.ts'
import { listenOn, toAddress, untilEmpty } from './listening.ts'
import { Http2Front } from './node-http2.ts'
import { untilNobodyComes } from './quiet-turn.ts'
import { onRead, RawConnection } from './raw-connection.ts'
import type { RawFrontState } from './raw-state.ts'
import { Roster } from './roster.ts'
import { TlsTermination } from './tls.ts'

/**
 * A turn of the event loop accepts one connection of each listener. Under load a turn takes
 * milliseconds: with one listener, the last of a few hundred clients that come at once waits for a second.
 */
const LISTENERS = 8

/**
 * Opens a listener of HTTP/1.1 with our own framing on plain sockets. Rejects where the address
 * cannot be bound.
 */
export async function openRawFront(options: FrontOptions): Promise<Front> {
  const front = new RawFront(options)
  await front.listen()
  return front
}

class RawFront implements Front {
  readonly #options: FrontOptions
  readonly #tls: TlsTermination | undefined
  readonly #http2: Http2Front | undefined
  readonly #servers: readonly Server[]
  readonly #state: RawFrontState
  readonly #sockets = new Roster<Socket>()
  readonly #connections = new Roster<RawConnection>()
  readonly #forget = (connection: RawConnection): void => {
    this.#connections.delete(connection)
    // Over TLS it is the socket below that is counted.
    if (this.#sockets.delete(connection.socket)) this.#options.onConnections(-1)
  }

  constructor(options: FrontOptions) {
    const { handler, headLimits, headerBytesMax, tls } = options
    this.#options = options
    this.#tls = tls && new TlsTermination(tls, options.http2)
    this.#http2 = options.http2 ? new Http2Front(options) : undefined
    this.#state = {
      handler,
      headLimits,
      parser: new RequestParser({
        headBytesMax: headerBytesMax,
        fieldsMax: headLimits.headersMax,
        targetBytesMax: headLimits.targetBytesMax,
      }),
      timers: new TimerWheel(),
      room: new WriteRoom(),
      readBuffer: createReadBuffer(),
      protocol: tls === undefined ? 'http' : 'https',
      headersMs: options.headersTimeoutMs,
      idleMs: options.idleTimeoutMs,
      bodyMs: options.bodyTimeoutMs,
      bodyBytesPerSecondMin: options.bodyBytesPerSecondMin,
      held: [],
      isFlushScheduled: false,
      isDraining: false,
      isClosing: false,
      dateLine: '',
      dateSecond: 0,
    }
    // A handshake costs more than a turn.
    const count = options.reusePort && tls === undefined ? LISTENERS : 1
    this.#servers = Array.from({ length: count }, () => this.#createServer())
  }

  get address(): { readonly host: string; readonly port: number } {
    return toAddress(this.#servers[0])
  }

  async listen(): Promise<void> {
    // Where any port will do, the first one finds it.
    for (const server of this.#servers) {
      const port = this.#servers[0]?.listening === true ? this.address.port : this.#options.port
      await listenOn(server, { ...this.#options, port })
      if (this.#tls === undefined) lendReads(server, this.#state.readBuffer, onRead)
    }
  }

  replaceTls(material: TlsMaterial): void {
    for (const server of this.#servers) {
      if (server instanceof TlsServer) this.#tls?.replace(server, material)
    }
  }

  drain(): void {
    this.#state.isDraining = true
    this.#http2?.drain()
  }

  async close(graceMs: number): Promise<void> {
    this.drain()
    for (const connection of this.#connections) connection.sayGoodbye()
    await untilNobodyComes(this.#servers)
    this.#state.isClosing = true
    const closed = Promise.all(this.#servers.map(close))
    for (const connection of this.#connections) connection.onClosing()
    this.#http2?.close()
    await untilEmpty(closed, this.#sockets, graceMs)
  }

  #createServer(): Server {
    if (this.#tls === undefined) {
      // A client may end its half with its last request; what that means is decided by the connection.
      return createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
        this.#sockets.add(socket)
        this.#options.onConnections(1)
        this.#take(socket)
      })
    }
    const server = createTlsServer(
      // Half open, a socket whose client leaves during the handshake would stay until that times out.
      { noDelay: true, ...this.#tls.toServerOptions(this.#options.headersTimeoutMs) },
      (socket) => this.#takeSecure(socket),
    )
    server.on('tlsClientError', (_error, socket) => socket.destroy())
    server.on('connection', (socket: Socket) => this.#watch(socket))
    return server
  }

  /** The socket below TLS. */
  #watch(socket: Socket): void {
    this.#sockets.add(socket)
    this.#options.onConnections(1)
    socket.on('error', () => {})
    socket.once('close', () => {
      this.#options.onConnections(-1)
      this.#sockets.delete(socket)
    })
  }

  #takeSecure(socket: TLSSocket): void {
    if (socket.alpnProtocol === 'h2') this.#http2?.take(socket)
    else this.#take(socket)
  }

  #take(socket: Socket): void {
    this.#connections.add(new RawConnection(socket, this.#state, this.#forget))
  }
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()))
}
