import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TLSSocket, Server as TlsServer } from 'node:tls'
import type { TlsMaterial } from '../../ports/tls.ts'
import type { Front } from '../../ports/transport.ts'
import { createReadBuffer } from '../http1/read-buffer.ts'
import { RequestParser } from '../http1/request-parser.ts'
import { WriteRoom } from '../http1/write-room.ts'
import { TimerWheel } from '../timer-wheel.ts'
import type { FrontOptions } from './front-options.ts'
import { listenOn, toAddress, untilEmpty } from './listening.ts'
import { Http2Front } from './node-http2.ts'
import { untilNobodyComes } from './quiet-turn.ts'
import { RawConnection } from './raw-connection.ts'
import type { RawFrontState } from './raw-state.ts'
import { TlsTermination } from './tls.ts'

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
  readonly #server: Server
  readonly #state: RawFrontState
  readonly #sockets = new Set<Socket>()
  readonly #connections = new Set<RawConnection>()

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
    this.#server = this.#createServer()
  }

  get address(): { readonly host: string; readonly port: number } {
    return toAddress(this.#server)
  }

  listen(): Promise<void> {
    return listenOn(this.#server, this.#options)
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
    for (const connection of this.#connections) connection.sayGoodbye()
    await untilNobodyComes(this.#server)
    this.#state.isClosing = true
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    for (const connection of this.#connections) connection.onClosing()
    this.#http2?.close()
    await untilEmpty(closed, this.#sockets, graceMs)
  }

  #createServer(): Server {
    if (this.#tls === undefined) {
      // A client may end its half with its last request; what that means is decided by the connection.
      const options = { allowHalfOpen: true, noDelay: true, pauseOnConnect: true }
      return createServer(options, (socket) => this.#watch(this.#take(socket, true)))
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
    else this.#take(socket, false)
  }

  #take(accepted: Socket, isPaused: boolean): Socket {
    const connection = new RawConnection(accepted, this.#state, isPaused)
    const { socket } = connection
    this.#connections.add(connection)
    socket.once('close', () => this.#connections.delete(connection))
    return socket
  }
}
