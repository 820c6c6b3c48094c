import type { RawFields, UpstreamRequest } from '../../ports/transport.ts'
import { assertLines, assertNoLineEnd, encodeFields, encodeSteady } from '../http1/encode.ts'
import type { RawSocket } from './raw-socket.ts'

/** Up to this size, what is to be sent is gathered as text, which is the cheapest to write. */
const TEXT_LENGTH_MAX = 16 * 1024

/** Throws where something is unfit for the wire. */
export function encodeRequestHead(request: UpstreamRequest): string {
  const { method, target, steady, fresh, isChunked } = request
  const { text, trailer } = encodeSteady(steady)
  const coding = isChunked ? 'Transfer-Encoding: chunked\r\n' : ''
  return `${method} ${assertNoLineEnd(target)} HTTP/1.1\r\n${text}${trailer}${encodeFields(fresh)}${coding}\r\n`
}

/** Writes one request that has a body, its head first. */
export class RequestWriter {
  /** Small pieces wait for each other, until `flush`. */
  isGathering = false
  isDone = false
  /** The request was given up: nothing more is written. */
  isCancelled = false
  /** The upstream does not take more at the moment. */
  isBlocked = false
  readonly #socket: RawSocket
  /** What was not handed to the socket yet. */
  #text: string
  /** -1 for a chunked body. */
  #bytesLeft: number

  constructor(socket: RawSocket, head: string, contentLength: number) {
    this.#socket = socket
    this.#text = head
    this.#bytesLeft = contentLength
  }

  /** The chunk is lent until the call returns. Whether more is welcome. */
  write(chunk: Uint8Array): boolean {
    if (this.isDone || chunk.length === 0) return true
    const isChunked = this.#bytesLeft < 0
    if (!isChunked) {
      this.#bytesLeft -= chunk.length
      if (this.#bytesLeft < 0) throw new RangeError('a request body longer than announced')
    }
    if (this.#text.length + chunk.length > TEXT_LENGTH_MAX) return this.#writeLarge(chunk, isChunked)
    const text = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length).toString('latin1')
    this.#text += isChunked ? `${chunk.length.toString(16)}\r\n${text}\r\n` : text
    if (!this.isGathering) this.flush()
    return !this.isBlocked
  }

  end(trailers: RawFields): void {
    if (this.isDone) return
    if (this.#bytesLeft > 0) throw new RangeError('a request body shorter than announced')
    this.isDone = true
    if (this.#bytesLeft < 0) {
      this.#text += assertLines(`0\r\n${encodeFields(trailers)}\r\n`, trailers.length / 2 + 2)
    }
    if (!this.isGathering) this.flush()
  }

  flush(): void {
    if (this.#text === '' || this.isCancelled) return
    const text = this.#text
    this.#text = ''
    if (!this.#socket.write(text)) this.isBlocked = true
  }

  /** Whether somebody waits for it. */
  onDrain(): boolean {
    const wasBlocked = this.isBlocked
    this.isBlocked = false
    return wasBlocked && !this.isDone
  }

  #writeLarge(chunk: Uint8Array, isChunked: boolean): boolean {
    const before = isChunked ? `${this.#text}${chunk.length.toString(16)}\r\n` : this.#text
    const bytes = this.#socket.room.take(before.length + chunk.length + (isChunked ? 2 : 0))
    bytes.write(before, 'latin1')
    bytes.set(chunk, before.length)
    if (isChunked) bytes.write('\r\n', bytes.length - 2, 'latin1')
    this.#text = ''
    this.isBlocked = !this.#socket.write(bytes)
    return !this.isBlocked
  }
}
