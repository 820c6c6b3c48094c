import { CR, FIELD_VALUE, LF, SPACE } from './characters.ts'
import {
  createMarks,
  INCOMPLETE,
  MALFORMED,
  readFieldSection,
  TOO_LARGE,
  toRawFields,
} from './field-section.ts'
import { Framing } from './framing.ts'
import { readLatin1 } from './latin1.ts'
import { copyBytes, type RecentHead, RecentHeads } from './recent-heads.ts'

export interface ResponseLimits {
  /** Status line and fields together. */
  readonly headBytesMax: number
  readonly fieldsMax: number
}

export interface RecentAnswer extends RecentHead {
  readonly status: number
}

const VERSION = Array.from('HTTP/1.', (character) => character.charCodeAt(0))
const DIGIT_ZERO = 0x30

/**
 * Reads heads of answers (RFC 9112 section 4) as strictly as `RequestParser` reads requests, and in
 * the same way. Where the body ends is left to the caller, who knows what was asked.
 */
export class ResponseParser {
  status = 0
  minor = 1
  rawHeaders: readonly string[] = []
  framing: Framing = new Framing()
  /** The head, where it came before or may come again; the same for each answer with the same one. */
  recent: RecentAnswer | undefined = undefined
  readonly #limits: ResponseLimits
  readonly #marks: Int32Array
  readonly #recent = new RecentHeads<RecentAnswer>()

  constructor(limits: ResponseLimits) {
    this.#limits = limits
    this.#marks = createMarks(limits.fieldsMax)
  }

  /**
   * The offset behind the head that starts at `start`, or why there is none. `last` is what the answer
   * before on the same connection left in `recent`.
   */
  parse(bytes: Buffer, start: number, end: number, last?: RecentAnswer): number {
    const { headBytesMax } = this.#limits
    const seenEnd = Math.min(end, start + headBytesMax)
    const known = this.#recent.find(bytes, start, seenEnd, last)
    if (known !== undefined) {
      this.status = known.status
      this.minor = 1
      this.rawHeaders = known.rawHeaders
      this.framing = known.framing
      this.recent = known
      return start + known.bytes.length
    }
    const fieldsStart = this.#readLine(bytes, start, seenEnd)
    const headEnd = fieldsStart < 0 ? fieldsStart : readFieldSection(bytes, fieldsStart, seenEnd, this.#marks)
    if (headEnd < 0) return headEnd === INCOMPLETE && end - start >= headBytesMax ? TOO_LARGE : headEnd
    return this.#take(bytes, start, headEnd) ? headEnd : MALFORMED
  }

  #take(bytes: Buffer, start: number, end: number): boolean {
    const rawHeaders = toRawFields(readLatin1(bytes, start, end), start, this.#marks)
    const framing = new Framing()
    this.rawHeaders = rawHeaders
    this.framing = framing
    this.recent = undefined
    if (!framing.read(rawHeaders, this.minor)) return false
    if (this.minor === 1 && rawHeaders.length > 0 && this.#recent.mayKeep(end - start)) {
      const copy = copyBytes(bytes, start, end)
      const { status } = this
      const recollection = { facts: undefined }
      this.recent = this.#recent.keep({ bytes: copy, status, rawHeaders, framing, recollection })
    }
    return true
  }

  #readLine(bytes: Buffer, start: number, end: number): number {
    for (let i = 0; i < VERSION.length; i++) {
      if (start + i >= end) return INCOMPLETE
      if (bytes[start + i] !== VERSION[i]) return MALFORMED
    }
    let at = start + VERSION.length
    if (at >= end) return INCOMPLETE
    this.minor = (bytes[at++] ?? 0) - DIGIT_ZERO
    if (this.minor !== 0 && this.minor !== 1) return MALFORMED
    if (at >= end) return INCOMPLETE
    if (bytes[at++] !== SPACE) return MALFORMED
    at = this.#readStatus(bytes, at, end)
    return at < 0 ? at : readReason(bytes, at, end)
  }

  #readStatus(bytes: Buffer, start: number, end: number): number {
    this.status = 0
    for (let at = start; at < start + 3; at++) {
      if (at >= end) return INCOMPLETE
      const digit = (bytes[at] ?? 0) - DIGIT_ZERO
      if (digit < 0 || digit > 9) return MALFORMED
      this.status = this.status * 10 + digit
    }
    return this.status < 100 ? MALFORMED : start + 3
  }
}

/** The reason is not kept. Some servers leave out the space before an empty one. */
function readReason(bytes: Buffer, start: number, end: number): number {
  let at = start
  if (at >= end) return INCOMPLETE
  if (bytes[at] !== SPACE && bytes[at] !== CR) return MALFORMED
  while (at < end && FIELD_VALUE[bytes[at] ?? 0] === 1) at++
  if (at >= end) return INCOMPLETE
  if (bytes[at] !== CR) return MALFORMED
  if (at + 1 >= end) return INCOMPLETE
  return bytes[at + 1] === LF ? at + 2 : MALFORMED
}
