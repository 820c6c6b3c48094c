import { CR, LF, SPACE, TARGET, TOKEN } from './characters.ts'
import {
  createMarks,
  INCOMPLETE,
  MALFORMED,
  readFieldSection,
  TARGET_TOO_LONG,
  TOO_LARGE,
  toRawFields,
} from './field-section.ts'
import { Framing } from './framing.ts'
import { readLatin1 } from './latin1.ts'
import { copyBytes, type RecentHead, RecentHeads } from './recent-heads.ts'

export interface RequestLimits {
  /** Request line and fields together. */
  readonly headBytesMax: number
  readonly fieldsMax: number
  readonly targetBytesMax: number
}

/** The methods that there are (RFC 9110 section 16.1.1 and kin); a parser that guesses is a hole. */
export const METHODS: ReadonlySet<string> = new Set(
  (
    'ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE ' +
    'NOTIFY OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SUBSCRIBE TRACE UNBIND ' +
    'UNLINK UNLOCK UNSUBSCRIBE'
  ).split(' '),
)

const METHOD_LENGTH_MAX = 16
/** ` HTTP/1.x` and the end of the line. */
const VERSION_LENGTH = 11
const VERSION = Array.from(' HTTP/1.', (character) => character.charCodeAt(0))

/**
 * Reads heads of requests (RFC 9112 sections 2 and 3): strict, nothing is repaired. What it found
 * stands in its fields until the next call. It holds no state between calls: a head that is not
 * complete is given again from its start, with more behind it.
 */
export class RequestParser {
  method = ''
  target = ''
  minor = 1
  rawHeaders: readonly string[] = []
  framing: Framing = new Framing()
  /** The fields, where they came before or may come again; the same for each request with the same ones. */
  recent: RecentHead | undefined = undefined
  readonly #limits: RequestLimits
  readonly #marks: Int32Array
  readonly #recent = new RecentHeads<RecentHead>()
  #methodEnd = 0
  #targetEnd = 0

  constructor(limits: RequestLimits) {
    this.#limits = limits
    this.#marks = createMarks(limits.fieldsMax)
  }

  get headBytesMax(): number {
    return this.#limits.headBytesMax
  }

  /**
   * The offset behind the head that starts at `start`, or why there is none. `last` is what the request
   * before on the same connection left in `recent`.
   */
  parse(bytes: Buffer, start: number, end: number, last?: RecentHead): number {
    const { headBytesMax } = this.#limits
    const seenEnd = Math.min(end, start + headBytesMax)
    const lineStart = skipEmptyLine(bytes, start, seenEnd)
    if (lineStart < 0) return lineStart
    const fieldsStart = this.#readLine(bytes, lineStart, seenEnd)
    if (fieldsStart < 0) {
      const isTooLong = fieldsStart === INCOMPLETE && end - start >= headBytesMax
      return isTooLong ? TARGET_TOO_LONG : fieldsStart
    }
    this.target = readLatin1(bytes, this.#methodEnd + 1, this.#targetEnd)
    const known = this.minor === 1 ? this.#recent.find(bytes, fieldsStart, seenEnd, last) : undefined
    if (known !== undefined) {
      this.rawHeaders = known.rawHeaders
      this.framing = known.framing
      this.recent = known
      return fieldsStart + known.bytes.length
    }
    const headEnd = readFieldSection(bytes, fieldsStart, seenEnd, this.#marks)
    if (headEnd < 0) return headEnd === INCOMPLETE && end - start >= headBytesMax ? TOO_LARGE : headEnd
    return this.#take(bytes, fieldsStart, headEnd) ? headEnd : MALFORMED
  }

  #readLine(bytes: Buffer, start: number, end: number): number {
    let at = start
    while (at < end && TOKEN[bytes[at] ?? 0] === 1) at++
    if (at - start > METHOD_LENGTH_MAX) return MALFORMED
    if (at >= end) return INCOMPLETE
    if (at === start || bytes[at] !== SPACE) return MALFORMED
    this.#methodEnd = at
    this.method = toMethod(bytes, start, at)
    if (this.method === '') return MALFORMED
    const targetStart = ++at
    const targetEndMax = targetStart + this.#limits.targetBytesMax
    while (at < end && TARGET[bytes[at] ?? 0] === 1) at++
    if (at > targetEndMax) return TARGET_TOO_LONG
    if (at >= end) return INCOMPLETE
    if (at === targetStart) return MALFORMED
    this.#targetEnd = at
    return this.#readVersion(bytes, at, end)
  }

  #readVersion(bytes: Buffer, start: number, end: number): number {
    for (let i = 0; i < VERSION.length; i++) {
      if (start + i >= end) return INCOMPLETE
      if (bytes[start + i] !== VERSION[i]) return MALFORMED
    }
    const at = start + VERSION.length
    if (at >= end) return INCOMPLETE
    this.minor = (bytes[at] ?? 0) - 0x30
    if (this.minor !== 0 && this.minor !== 1) return MALFORMED
    if (at + 1 >= end) return INCOMPLETE
    if (bytes[at + 1] !== CR) return MALFORMED
    if (at + 2 >= end) return INCOMPLETE
    return bytes[at + 2] === LF ? start + VERSION_LENGTH : MALFORMED
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
      this.recent = this.#recent.keep({
        bytes: copy,
        rawHeaders,
        framing,
        recollection: { facts: undefined },
      })
    }
    return true
  }
}

/** One empty line may come before a request (RFC 9112 section 2.2). */
function skipEmptyLine(bytes: Uint8Array, start: number, end: number): number {
  if (start >= end) return INCOMPLETE
  if (bytes[start] !== CR) return start
  if (start + 1 >= end) return INCOMPLETE
  return bytes[start + 1] === LF ? start + 2 : MALFORMED
}

/** `''` for a method that there is not. */
function toMethod(bytes: Buffer, start: number, end: number): string {
  if (end - start === 3 && bytes[start] === 0x47 && bytes[start + 1] === 0x45 && bytes[start + 2] === 0x54) {
    return 'GET'
  }
  const method = readLatin1(bytes, start, end)
  return METHODS.has(method) ? method : ''
}
