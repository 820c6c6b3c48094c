import type { Socket } from 'node:net'
import type { ClientFault, UpgradedSocket } from '../../ports/transport.ts'
import { INCOMPLETE } from '../http1/field-section.ts'
import type { RecentHead } from '../http1/recent-heads.ts'
import type { RequestParser } from '../http1/request-parser.ts'
import { SocketWriter } from '../http1/socket-writer.ts'
import { checkRequestHead } from '../request-check.ts'
import { Deadline, type Timed } from '../timer-wheel.ts'
import { LINGER_BYTES_MAX, LINGER_MS, RawClientStream } from './raw-client-stream.ts'
import { encodeWhole, type RawFrontState, type RawStreamOwner, toFault } from './raw-state.ts'

const NOTHING = Buffer.alloc(0)
const LF = 0x0a
/** What may stand behind a request that is being answered. */
const BEHIND_BYTES_MAX = 16 * 1024

/**
 * One connection of a client. What was read is lent, and what is left of it is copied and kept until
 * somebody wants it: the parser while no exchange runs, the exchange while it takes a body, nobody in
 * between. So requests are taken one at a time and in order, and no byte is ever looked at in two ways.
 */
export class RawConnection implements Timed, RawStreamOwner {
  readonly peerAddress: string
  readonly socket: Socket
  readonly #state: RawFrontState
  readonly #writer: SocketWriter
  readonly #onClosed: (connection: RawConnection) => void
  readonly #deadline: Deadline = new Deadline(this)
  #stream: RawClientStream | undefined = undefined
  #bytes: Buffer = NOTHING
  #at = 0
  #end = 0
  /** The fields of the request before. */
  #recent: RecentHead | undefined = undefined
  /** How much of an incomplete head the parser has seen. */
  #seen = 0
  /** `leaving`: a last answer was given, and whatever comes is thrown away. */
  #phase: 'open' | 'leaving' | 'detached' | 'closed' = 'open'
  #isAdvancing = false
  #isPaused = false
  #hasServed = false
  #lingered = 0

  constructor(socket: Socket, state: RawFrontState, onClosed: (connection: RawConnection) => void) {
    this.socket = socket
    this.#state = state
    this.#onClosed = onClosed
    this.peerAddress = socket.remoteAddress ?? ''
    this.#writer = new SocketWriter(socket, () => this.#stream?.onDrain())
    attach(socket, this)
    this.arm(state.headersMs)
  }

  // Streams call these.

  write(data: string | Buffer): boolean {
    if (typeof data === 'string') return this.#writer.write(data)
    return this.#state.room.write(this.#writer, data)
  }

  arm(limitMs: number): void {
    this.#state.timers.arm(this.#deadline, limitMs)
  }

  disarm(): void {
    this.#state.timers.disarm(this.#deadline)
  }

  destroy(): void {
    this.socket.destroy()
  }

  free(stream: { readonly closes: boolean }): void {
    if (this.#stream !== stream || this.#phase !== 'open') return
    this.#stream = undefined
    if (stream.closes || this.#state.isClosing) {
      this.#leave()
      return
    }
    this.arm(this.#state.idleMs)
    this.advance()
  }

  detach(): void {
    this.#phase = 'detached'
    this.disarm()
    const socket = this.socket
    socket.removeListener('data', onData)
    socket.removeListener('end', onEnd)
    this.#writer.detach()
    socket.pause()
    if (this.#at < this.#end) socket.unshift(Buffer.from(this.#bytes.subarray(this.#at, this.#end)))
    this.#forget()
  }

  advance(): void {
    if (this.#isAdvancing) return
    this.#isAdvancing = true
    while (this.#phase === 'open') {
      const stream = this.#stream
      if (!(stream === undefined ? this.#takeRequest() : this.#takeBody(stream))) break
    }
    this.#isAdvancing = false
    if (this.#at === this.#end && this.#at > 0) this.#forget()
    if (this.#phase === 'open') this.#regulate()
  }

  // The front calls these.

  sayGoodbye(): void {
    const stream = this.#stream
    if (stream?.upgraded !== undefined) stream.goAway()
  }

  onClosing(): void {
    const stream = this.#stream
    this.sayGoodbye()
    // A client that has just come may have its first request on the way.
    if (stream === undefined && this.#hasServed && this.#end === 0) this.#leave()
  }

  onDeadline(): void {
    if (this.#phase === 'leaving') this.destroy()
    else if (this.#stream !== undefined) this.#stream.onDeadline()
    else if (this.#end - this.#at > 2) this.#refuse('request_timeout')
    else this.destroy()
  }

  // The listeners below call these.

  onData(chunk: Buffer): void {
    this.#take(chunk, chunk.length)
  }

  /** The socket has read into the memory that all share. */
  onRead(length: number): boolean {
    const { readBuffer } = this.#state
    // Whoever has the socket now reads it as any other.
    if (this.#phase === 'detached') return this.socket.push(Buffer.from(readBuffer.subarray(0, length)))
    this.#take(readBuffer, length)
    if (this.#bytes === readBuffer) {
      this.#bytes = Buffer.from(readBuffer.subarray(this.#at, this.#end))
      this.#end = this.#bytes.length
      this.#at = 0
    }
    return true
  }

  /** The client has said all that it wanted to: with an exchange running, it has left. */
  onEnd(): void {
    if (this.#stream === undefined) this.socket.destroySoon()
    else this.destroy()
  }

  onClose(): void {
    if (this.#phase !== 'detached') this.#phase = 'closed'
    this.#deadline.release()
    this.#forget()
    this.#stream?.onClose()
    this.#onClosed(this)
  }

  #take(bytes: Buffer, length: number): void {
    if (this.#phase === 'leaving') {
      this.#lingered += length
      if (this.#lingered > LINGER_BYTES_MAX) this.socket.pause()
      return
    }
    const rest = this.#end - this.#at
    if (rest === 0) {
      this.#bytes = bytes
      this.#end = length
    } else {
      this.#bytes = Buffer.concat([this.#bytes.subarray(this.#at, this.#end), bytes.subarray(0, length)])
      this.#end = this.#bytes.length
    }
    this.#at = 0
    if (this.#stream !== undefined || this.#mayBeHead(rest)) this.advance()
  }

  #forget(): void {
    this.#bytes = NOTHING
    this.#at = 0
    this.#end = 0
  }

  /** Whether it is worth while to parse again: not for each byte of a head that trickles in. */
  #mayBeHead(rest: number): boolean {
    if (rest === 0 || this.#bytes.includes(LF, rest)) return true
    return this.#end >= Math.min(2 * this.#seen, this.#state.parser.headBytesMax)
  }

  #takeRequest(): boolean {
    const available = this.#end - this.#at
    if (available === 0) return false
    const { parser } = this.#state
    const end = parser.parse(this.#bytes, this.#at, this.#end, this.#recent)
    if (end < 0) {
      if (end !== INCOMPLETE) this.#refuse(toFault(end))
      else if (this.#seen === 0) this.arm(this.#state.headersMs)
      this.#seen = end === INCOMPLETE ? available : 0
      return false
    }
    this.#at = end
    this.#recent = parser.recent
    this.#seen = 0
    this.#hasServed = true
    this.disarm()
    const upgraded = parser.framing.hasUpgrade ? this.#toUpgraded(parser) : undefined
    const stream = new RawClientStream(this.#state, this, parser, upgraded)
    this.#stream = stream
    stream.bind(this.#state.handler.accept(stream))
    return true
  }

  #takeBody(stream: RawClientStream): boolean {
    if (!stream.wantsBody) return false
    this.#at = stream.body.next(this.#bytes, this.#at, this.#end)
    return stream.onBodyEvent(this.#bytes)
  }

  /** Where the request asks for a WebSocket, what follows it is none of ours. */
  #toUpgraded(parser: RequestParser): UpgradedSocket | undefined {
    const { method, target, rawHeaders, minor } = parser
    const httpVersion = minor === 0 ? '1.0' : '1.1'
    const head = checkRequestHead({ method, target, httpVersion, rawHeaders }, this.#state.headLimits)
    if (head.kind === 'fault' || !head.isWebSocket) return undefined
    const upgraded = { socket: this.socket, head: Buffer.from(this.#bytes.subarray(this.#at, this.#end)) }
    this.#at = this.#end
    return upgraded
  }

  /**
   * Stops reading while there is too much that nobody wants yet. A little behind a request is not: as long as nothing
   * is read, it does not show that the client has left.
   */
  #regulate(): void {
    const stream = this.#stream
    const heldMax = stream?.isRequestDone === true ? BEHIND_BYTES_MAX : 0
    const isFull = stream !== undefined && this.#end - this.#at > heldMax
    if (isFull === this.#isPaused) return
    this.#isPaused = isFull
    if (isFull) this.socket.pause()
    else this.socket.resume()
  }

  #refuse(code: ClientFault): void {
    const answer = this.#state.handler.refuse(code, this.peerAddress)
    this.write(encodeWhole(this.#state, answer, true))
    this.#leave()
  }

  /** Ends our half, and gives the client a moment to read it and to end its own. */
  #leave(): void {
    this.#phase = 'leaving'
    this.#forget()
    this.socket.end()
    this.socket.resume()
    this.arm(LINGER_MS)
  }
}

const CONNECTION: unique symbol = Symbol('connection')

interface Attached extends Socket {
  [CONNECTION]?: RawConnection
}

/** What a socket has read into the memory that all share. */
export function onRead(socket: Attached, length: number): boolean {
  return socket[CONNECTION]?.onRead(length) ?? true
}

/** The same functions for every socket, which find their connection on it. */
function attach(socket: Attached, connection: RawConnection): void {
  socket[CONNECTION] = connection
  socket.on('data', onData)
  socket.on('end', onEnd)
  socket.on('close', onClose)
  socket.on('error', ignore)
}

function onData(this: Attached, chunk: Buffer): void {
  this[CONNECTION]?.onData(chunk)
}

function onEnd(this: Attached): void {
  this[CONNECTION]?.onEnd()
}

function onClose(this: Attached): void {
  this[CONNECTION]?.onClose()
}

function ignore(): void {}
