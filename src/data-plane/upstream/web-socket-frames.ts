/*
 * Just enough of RFC 6455 section 5.2 to know where frames end, so that a close frame can be put
 * between two of them.
 */

/** A close frame from a server: code 1001, "going away". */
export const GOING_AWAY: Uint8Array = Uint8Array.of(0x88, 0x02, 0x03, 0xe9)

const LENGTH_16 = 126
const LENGTH_64 = 127

/** Follows a stream of frames chunk by chunk. */
export class FrameTracker {
  /** Bytes of the present frame's payload that are still to come. */
  #payloadLeft = 0
  /** The present frame's head, as far as it has come. */
  readonly #head = new Uint8Array(14)
  #headBytes = 0

  get isAtBoundary(): boolean {
    return this.#payloadLeft === 0 && this.#headBytes === 0
  }

  /** Takes the next chunk; gives the offset of the first boundary after its start, or -1. */
  push(chunk: Uint8Array): number {
    let boundary = -1
    for (let at = 0; at < chunk.length; ) {
      at = this.#payloadLeft > 0 ? this.#skipPayload(chunk, at) : this.#readHead(chunk, at)
      if (boundary < 0 && this.isAtBoundary) boundary = at
    }
    return boundary
  }

  #skipPayload(chunk: Uint8Array, at: number): number {
    const taken = Math.min(this.#payloadLeft, chunk.length - at)
    this.#payloadLeft -= taken
    return at + taken
  }

  #readHead(chunk: Uint8Array, at: number): number {
    this.#head[this.#headBytes++] = chunk[at] ?? 0
    if (this.#headBytes >= 2 && this.#headBytes === this.#headLength()) {
      this.#payloadLeft = this.#payloadLength()
      this.#headBytes = 0
    }
    return at + 1
  }

  #headLength(): number {
    const second = this.#head[1] ?? 0
    const short = second & 0x7f
    const extended = short === LENGTH_16 ? 2 : short === LENGTH_64 ? 8 : 0
    return 2 + extended + ((second & 0x80) === 0 ? 0 : 4)
  }

  #payloadLength(): number {
    const short = (this.#head[1] ?? 0) & 0x7f
    const view = new DataView(this.#head.buffer)
    if (short === LENGTH_16) return view.getUint16(2)
    if (short === LENGTH_64) return Number(view.getBigUint64(2))
    return short
  }
}
