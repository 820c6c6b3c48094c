import { RawSocket, type RawSocketDeps, type RawSocketUser } from './raw-socket.ts'

/** A connection that has been idle for longer is closed: most servers allow a little more. */
const KEEP_ALIVE_MS = 4000

/**
 * The idle connections of one target; last in, first out, so that a quiet target keeps few.
 * Whatever happens to an idle connection was not asked for, and ends it.
 */
export class RawPool implements RawSocketUser {
  readonly #deps: RawSocketDeps
  readonly #idle: RawSocket[] = []
  #isClosed = false

  constructor(deps: RawSocketDeps) {
    this.#deps = deps
  }

  /** An idle connection, which belongs to the caller from now on. */
  take(): RawSocket | undefined {
    for (let socket = this.#idle.pop(); socket !== undefined; socket = this.#idle.pop()) {
      if (socket.isUsable) return socket
      drop(socket)
    }
    return undefined
  }

  /** A new connection; `user` is told when it stands. */
  connect(user: RawSocketUser): RawSocket {
    return new RawSocket(this.#deps, user)
  }

  give(socket: RawSocket): void {
    if (this.#isClosed || !socket.isUsable) {
      drop(socket)
      return
    }
    socket.user = this
    socket.resume()
    socket.arm(KEEP_ALIVE_MS)
    this.#idle.push(socket)
  }

  close(): void {
    this.#isClosed = true
    for (const socket of this.#idle.splice(0)) drop(socket)
  }

  onConnect(): void {}

  onDrain(): void {}

  onBytes(socket: RawSocket): void {
    this.#remove(socket)
  }

  onEnd(socket: RawSocket): void {
    this.#remove(socket)
  }

  onClose(socket: RawSocket): void {
    this.#remove(socket)
  }

  onDeadline(socket: RawSocket): void {
    this.#remove(socket)
  }

  #remove(socket: RawSocket): void {
    const index = this.#idle.lastIndexOf(socket)
    if (index >= 0) this.#idle.splice(index, 1)
    drop(socket)
  }
}

/** Gives a connection up; nobody hears of it any more. */
export function drop(socket: RawSocket): void {
  socket.user = undefined
  socket.destroy()
}
