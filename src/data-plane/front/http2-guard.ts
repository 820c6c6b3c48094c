/** Why a connection of HTTP/2 was cut off. */
export type Http2CutOff = 'resets' | 'continuations' | 'control_frames' | 'invalid_frames'

/**
 * A client that opens requests only to reset them makes work for the gateway and its upstreams
 * without ever meeting the limit of concurrent streams (CVE-2023-44487). Who cancels in earnest
 * cancels a page full, not hundreds in a second.
 */
const RESETS_MAX = 200
const RESETS_PER_SECOND = 33
/** PING and SETTINGS that want an answer each; those between two frames of an answer are fine. */
const CONTROL_MAX = 500
const CONTROL_PER_SECOND = 10

/** What nghttp2 itself bounds, so that also a single read of the socket cannot hold more. */
export const NGHTTP2_LIMITS = {
  streamResetBurst: 250,
  streamResetRate: RESETS_PER_SECOND,
  maxSettings: 32,
  maxSessionInvalidFrames: 200,
  maxOutstandingPings: 10,
} as const

const CONTINUATIONS_ERRNO = -905
const FLOODED_ERRNO = -904
const TOO_MANY_INVALID = 'ERR_HTTP2_TOO_MANY_INVALID_FRAMES'

/** Counts what one connection does that costs more here than there. */
export class Http2Guard {
  readonly #resets = new Allowance(RESETS_MAX, RESETS_PER_SECOND)
  readonly #control = new Allowance(CONTROL_MAX, CONTROL_PER_SECOND)

  /** A stream ended by the client, or by its fault, before its answer did. Whether that is too much. */
  countReset(): boolean {
    return this.#resets.spend()
  }

  /** Whether it is too much. */
  countControlFrame(): boolean {
    return this.#control.spend()
  }

  /** Something of use was sent: some clients measure the path with a PING for each piece of it. */
  onProgress(): void {
    this.#control.refill()
  }

  /** The reason, where nghttp2 gave up on a flood; `undefined` where it was something else. */
  explain(error: unknown): Http2CutOff | undefined {
    const { code, errno } = Object(error) as { readonly code?: unknown; readonly errno?: unknown }
    if (code === TOO_MANY_INVALID) return 'invalid_frames'
    if (errno === CONTINUATIONS_ERRNO) return 'continuations'
    if (errno === FLOODED_ERRNO) return 'control_frames'
    // nghttp2 gives no reason of its own for resets, which are counted here a moment later.
    return this.#resets.spent > RESETS_MAX / 2 ? 'resets' : undefined
  }
}

class Allowance {
  readonly #max: number
  readonly #perMs: number
  #spentAt = 0
  spent = 0

  constructor(max: number, perSecond: number) {
    this.#max = max
    this.#perMs = perSecond / 1000
  }

  spend(): boolean {
    const nowMs = performance.now()
    this.spent = Math.max(0, this.spent - (nowMs - this.#spentAt) * this.#perMs) + 1
    this.#spentAt = nowMs
    return this.spent > this.#max
  }

  refill(): void {
    this.spent = 0
  }
}
