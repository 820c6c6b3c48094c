import { ChunkedScanner } from './chunked-scanner.ts'

const NO_TRAILERS: readonly string[] = []

/**
 * Finds the pieces of one message body, and its end, in the bytes of a connection (RFC 9112
 * section 6.3). What follows the end is left alone.
 */
export class BodyReader {
  /** What the last call of `next` found. After `end` or `fault` there is nothing more. */
  event: 'data' | 'end' | 'fault' | 'more' = 'more'
  /** Of the data found, in the bytes given. */
  dataStart = 0
  dataEnd = 0
  /** Bytes still to come; -1 where that is not known. */
  bytesLeft: number
  readonly #scanner: ChunkedScanner | undefined

  private constructor(bytesLeft: number, scanner: ChunkedScanner | undefined) {
    this.bytesLeft = bytesLeft
    this.#scanner = scanner
  }

  static ofLength(bytes: number): BodyReader {
    return new BodyReader(bytes, undefined)
  }

  static ofChunks(): BodyReader {
    return new BodyReader(-1, new ChunkedScanner())
  }

  /** Only the end of the connection ends it. */
  static untilClose(): BodyReader {
    return new BodyReader(-1, undefined)
  }

  get isChunked(): boolean {
    return this.#scanner !== undefined
  }

  get isUntilClose(): boolean {
    return this.#scanner === undefined && this.bytesLeft < 0
  }

  get trailers(): readonly string[] {
    return this.#scanner?.trailers ?? NO_TRAILERS
  }

  /** Goes on from `start` to the next event; the offset behind what it used. */
  next(bytes: Buffer, start: number, end: number): number {
    if (this.#scanner !== undefined) return this.#nextChunk(this.#scanner, bytes, start, end)
    if (this.bytesLeft === 0) {
      this.event = 'end'
      return start
    }
    const taken = this.bytesLeft < 0 ? end - start : Math.min(this.bytesLeft, end - start)
    if (this.bytesLeft > 0) this.bytesLeft -= taken
    this.event = taken === 0 ? 'more' : 'data'
    this.dataStart = start
    this.dataEnd = start + taken
    return this.dataEnd
  }

  #nextChunk(scanner: ChunkedScanner, bytes: Buffer, start: number, end: number): number {
    const at = scanner.next(bytes, start, end)
    this.event = scanner.event
    this.dataStart = scanner.dataStart
    this.dataEnd = scanner.dataEnd
    return at
  }
}
