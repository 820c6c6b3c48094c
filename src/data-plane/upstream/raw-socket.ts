import { connect as connectPlain, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { RecentAnswer } from '../http1/response-parser.ts'
import { SocketWriter } from '../http1/socket-writer.ts'
import type { WriteRoom } from '../http1/write-room.ts'
import { Deadline, type Timed, type TimerWheel } from '../timer-wheel.ts'
import { type Origin, toTlsOptions } from './origin.ts'

/** What a connection to an upstream tells whoever uses it at the moment. */
export interface RawSocketUser {
  /** The connection stands, TLS included. */
  onConnect(socket: RawSocket): void
  /** The bytes from 0 to `end` are lent until the call returns. */
  onBytes(socket: RawSocket, bytes: Buffer, end: number): void
  onDrain(socket: RawSocket): void
  /** The upstream has ended its half. */
  onEnd(socket: RawSocket): void
  /** The connection is gone; nothing follows. */
  onClose(socket: RawSocket, error: Error | undefined): void
  onDeadline(socket: RawSocket): void
}

/** What the connections of one target share. */
export interface RawSocketDeps {
  readonly origin: Origin
  readonly timers: TimerWheel
  /** Read into by all of them. */
  readonly readBuffer: Buffer
  /** Likewise for what is written. */
  readonly room: WriteRoom
}

/** One connection to an upstream, used by one request after another. */
export class RawSocket implements Timed {
  user: RawSocketUser | undefined
  isConnected = false
  /** Requests begun on it. */
  requests = 0
  /** The head of the answer before. */
  recent: RecentAnswer | undefined = undefined
  readonly room: WriteRoom
  readonly #socket: Socket
  readonly #writer: SocketWriter
  readonly #timers: TimerWheel
  readonly #deadline: Deadline = new Deadline(this)
  #error: Error | undefined = undefined
  #hasEnded = false
  #isPaused = false

  constructor(deps: RawSocketDeps, user: RawSocketUser) {
    this.user = user
    this.room = deps.room
    this.#timers = deps.timers
    this.#socket = deps.origin.isTls ? this.#connectTls(deps) : this.#connectPlain(deps)
    this.#socket.setNoDelay(true)
    this.#writer = new SocketWriter(this.#socket, () => this.user?.onDrain(this))
    this.#listen(deps.origin.isTls ? 'secureConnect' : 'connect')
  }

  /** Whether a request may be sent on it. */
  get isUsable(): boolean {
    return this.isConnected && !this.#hasEnded && this.#error === undefined && !this.#socket.destroyed
  }

  /** Whether the socket can take more at once. */
  write(data: string | Uint8Array): boolean {
    if (typeof data === 'string') return this.#writer.write(data)
    return this.room.write(this.#writer, data)
  }

  pause(): void {
    if (this.#isPaused) return
    this.#isPaused = true
    this.#socket.pause()
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#socket.resume()
  }

  get isPaused(): boolean {
    return this.#isPaused
  }

  arm(limitMs: number): void {
    this.#timers.arm(this.#deadline, limitMs)
  }

  destroy(): void {
    this.#socket.destroy()
  }

  /** Closes once all that was written has left, or after `limitMs`; nobody hears of it any more. */
  endSoon(limitMs: number): void {
    this.user = undefined
    this.#socket.destroySoon()
    if (!this.#socket.destroyed) this.arm(limitMs)
  }

  onDeadline(): void {
    if (this.user === undefined) this.destroy()
    else this.user.onDeadline(this)
  }

  #connectPlain({ origin, readBuffer }: RawSocketDeps): Socket {
    return connectPlain({
      host: origin.address,
      port: origin.port,
      noDelay: true,
      onread: {
        buffer: readBuffer,
        callback: (bytes) => {
          this.user?.onBytes(this, readBuffer, bytes)
          return true
        },
      },
    })
  }

  #connectTls({ origin }: RawSocketDeps): Socket {
    const socket = connectTls({
      host: origin.address,
      port: origin.port,
      servername: origin.servername,
      ALPNProtocols: ['http/1.1'],
      ...toTlsOptions(origin),
    })
    socket.on('data', (chunk: Buffer) => this.user?.onBytes(this, chunk, chunk.length))
    return socket
  }

  #listen(connected: 'connect' | 'secureConnect'): void {
    const socket = this.#socket
    socket.once(connected, () => {
      this.isConnected = true
      this.user?.onConnect(this)
    })
    socket.on('end', () => {
      this.#hasEnded = true
      this.user?.onEnd(this)
    })
    socket.on('error', (error) => {
      this.#error = error
    })
    socket.once('close', () => {
      this.#deadline.release()
      this.user?.onClose(this, this.#error)
    })
  }
}
