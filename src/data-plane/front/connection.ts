import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { ClientFault, ClientHandler, ClientStream, FrontHandler } from '../../ports/transport.ts'
import type { Roster } from './roster.ts'

/** How often waiting streams are looked at; a limit holds to within this. */
export const TICK_MS = 250

/** A client's stream as the front itself sees it. */
export interface FrontStream extends ClientStream {
  /** The request was read to its end, or has nothing behind its head. */
  readonly isRequestDone: boolean
  /** Where the next request begins is not known: nothing behind this one may be taken. */
  readonly isLast: boolean
  bind(handler: ClientHandler): void
  /** The rest of the request is unusable. */
  fault(code: ClientFault): void
  /** Sends a head, and the first chunk, that waited for more in the same turn. */
  flushHead(): void
  onTick(): void
}

/** What the streams of one front share. */
export interface FrontState {
  readonly handler: FrontHandler
  /** Longest silence in the middle of a request body; 0 allows any. */
  readonly bodyMs: number
  /** Least average of a request body, in bytes per second; 0 allows any. */
  readonly bodyBytesPerSecondMin: number
  /** Streams that wait for their client; looked at on every tick. */
  readonly watched: Roster<FrontStream>
  /** Heads that were begun in this turn of the event loop and not yet sent. */
  readonly held: FrontStream[]
  isFlushScheduled: boolean
  /** Every answer ends its connection. */
  isDraining: boolean
  /** Connections end as soon as they have nothing to do. */
  isClosing: boolean
  /** Called when a connection has nothing more to do while the front closes. */
  onIdle(): void
}

/**
 * The exchanges of one connection. Node parses pipelined requests ahead; here they are taken one
 * at a time, so that one that changes something is done before the next one starts. While any
 * wait, and an exchange waits until the client has taken the answer before, nothing is read.
 */
export class Connection {
  readonly socket: Duplex
  readonly #state: FrontState
  #active: FrontStream | undefined
  /** At most what one read of the socket held: reading stops while there is any. */
  readonly #waiting: FrontStream[] = []
  #isHeld = false
  /** Requests so far. */
  #taken = 0
  /** The last request was taken. */
  #isFinal = false
  /** Said once the active exchange is done, when something malformed follows it. */
  #onFree: (() => void) | undefined

  constructor(socket: Duplex, state: FrontState) {
    this.socket = socket
    this.#state = state
    // Node resumes the socket whenever it has parsed a request, and does so a moment later.
    socket.on('resume', () => {
      if (this.#isHeld) stopReading(socket)
    })
  }

  get active(): FrontStream | undefined {
    return this.#active
  }

  take(stream: FrontStream): void {
    // Whatever comes behind an answer that closed the connection is void.
    if (!this.socket.writable || this.#isFinal) {
      this.#hold()
      return
    }
    this.#isFinal = stream.isLast
    this.#taken++
    if (this.#active === undefined) {
      this.#start(stream)
    } else {
      this.#waiting.push(stream)
      this.#hold()
    }
  }

  /**
   * Whether a head is late because nothing was read. It gets its time anew as long as that is so;
   * Node does not watch it any more, so `onLate` says when it is late after all.
   */
  excuseLateHead(limitMs: number, onLate: () => void): boolean {
    if (!this.#isHeld) return false
    this.#giveTime(limitMs, onLate)
    return true
  }

  /** Runs when the exchanges taken so far are done; only one callback is kept, the first. */
  whenFree(callback: () => void): void {
    if (this.#active === undefined) callback()
    else this.#onFree ??= callback
  }

  /** The active exchange is over, its request read to the end. */
  free(): void {
    this.#active = undefined
    if (!this.socket.writable) return
    const next = this.#waiting.shift()
    if (next !== undefined) {
      // The limit of the answer before, which the client was slow to take.
      if (this.socket instanceof Socket && this.socket.timeout) this.socket.setTimeout(0)
      this.#start(next)
      if (this.#waiting.length === 0) this.#release()
    } else if (this.#onFree !== undefined) {
      this.#onFree()
    } else if (this.#state.isClosing) {
      this.#state.onIdle()
    }
  }

  #giveTime(limitMs: number, onLate: () => void): void {
    const wasHeld = this.#isHeld
    const taken = this.#taken
    const timer = setTimeout(() => {
      if (this.socket.destroyed || this.#taken !== taken) return
      // The whole of the time must have passed since reading began again.
      if (wasHeld) this.#giveTime(limitMs, onLate)
      else onLate()
    }, limitMs)
    timer.unref()
  }

  #hold(): void {
    if (this.#isHeld) return
    this.#isHeld = true
    stopReading(this.socket)
  }

  #release(): void {
    this.#isHeld = false
    this.socket.resume()
  }

  #start(stream: FrontStream): void {
    this.#active = stream
    const handler: ClientHandler = this.#state.handler.accept(stream)
    stream.bind(handler)
  }
}

/** A paused stream says nothing when it is paused again, but Node may have begun to read anew. */
function stopReading(socket: Duplex): void {
  socket.pause()
  socket.emit('pause')
}
