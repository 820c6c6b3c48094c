import { CR, FIELD_VALUE, LF, TOKEN, toHexDigit } from './characters.ts'
import { createMarks, INCOMPLETE, readFieldSection, toRawFields } from './field-section.ts'

export interface ChunkedLimits {
  /** Of one message. */
  readonly extensionBytesMax: number
  readonly trailerBytesMax: number
  readonly trailersMax: number
}

const CHUNKED_LIMITS: ChunkedLimits = {
  extensionBytesMax: 4096,
  trailerBytesMax: 8192,
  trailersMax: 64,
}

const SIZE_DIGITS_MAX = 12
/** As trailers they would be a second opinion on where the body, or the connection, ends. */
const FRAMING_FIELDS: ReadonlySet<string> = new Set(['content-length', 'transfer-encoding', 'connection'])
const SEMICOLON = 0x3b
const EQUALS = 0x3d
const QUOTE = 0x22
const BACKSLASH = 0x5c
const NOTHING = Buffer.alloc(0)

type State =
  | 'size'
  | 'name-start'
  | 'name'
  | 'value-start'
  | 'value'
  | 'quoted'
  | 'escaped'
  | 'quoted-end'
  | 'line-end'
  | 'data'
  | 'data-cr'
  | 'data-lf'
  | 'trailers'
  | 'end'
  | 'fault'

/**
 * Reads one body in the chunked transfer coding (RFC 9112 section 7.1), piece by piece. Sizes have
 * at most 12 digits; extensions are checked, bounded and thrown away; blanks are nowhere allowed.
 */
export class ChunkedScanner {
  /** What the last call of `next` found. `more`: all bytes were used, and nothing is to be told. */
  event: 'data' | 'end' | 'fault' | 'more' = 'more'
  /** Of the data found, in the bytes given. */
  dataStart = 0
  dataEnd = 0
  /** Raw list, from `end` on. */
  trailers: readonly string[] = []
  readonly #limits: ChunkedLimits
  #state: State = 'size'
  #size = 0
  #digits = 0
  #left = 0
  #extensionBytes = 0
  /** The trailer section as far as it has come. */
  #held: Buffer = NOTHING

  constructor(limits: ChunkedLimits = CHUNKED_LIMITS) {
    this.#limits = limits
  }

  /** Goes on from `start` to the next event; the offset behind what it used. */
  next(bytes: Buffer, start: number, end: number): number {
    this.event = 'more'
    let at = start
    while (at < end) {
      if (this.#state === 'data') return this.#takeData(at, end)
      if (this.#state === 'trailers') return this.#takeTrailers(bytes, at, end)
      if (this.#state === 'end' || this.#state === 'fault') break
      this.#state = this.#step(bytes[at] ?? 0)
      at++
      if (this.#state === 'fault') this.event = 'fault'
    }
    return at
  }

  #takeData(at: number, end: number): number {
    const taken = Math.min(this.#left, end - at)
    this.#left -= taken
    if (this.#left === 0) this.#state = 'data-cr'
    this.event = 'data'
    this.dataStart = at
    this.dataEnd = at + taken
    return at + taken
  }

  /** Few messages have trailers, so they are gathered and read again with every piece. */
  #takeTrailers(bytes: Buffer, at: number, end: number): number {
    const { trailerBytesMax, trailersMax } = this.#limits
    const before = this.#held.length
    const taken = bytes.subarray(at, Math.min(end, at + trailerBytesMax - before))
    this.#held = before === 0 ? Buffer.from(taken) : Buffer.concat([this.#held, taken])
    const marks = createMarks(trailersMax)
    const sectionEnd = readFieldSection(this.#held, 0, this.#held.length, marks)
    if (sectionEnd >= 0) {
      this.trailers = toRawFields(this.#held.toString('latin1', 0, sectionEnd), 0, marks)
      this.#held = NOTHING
      this.#state = hasFraming(this.trailers) ? 'fault' : 'end'
      this.event = this.#state
      return at + sectionEnd - before
    }
    if (sectionEnd !== INCOMPLETE || this.#held.length >= trailerBytesMax) {
      this.#state = 'fault'
      this.event = 'fault'
    }
    return at + taken.length
  }

  #step(code: number): State {
    switch (this.#state) {
      case 'size':
        return this.#stepSize(code)
      case 'line-end':
        if (code !== LF) return 'fault'
        if (this.#size === 0) return 'trailers'
        this.#left = this.#size
        this.#size = 0
        this.#digits = 0
        return 'data'
      case 'data-cr':
        return code === CR ? 'data-lf' : 'fault'
      case 'data-lf':
        return code === LF ? 'size' : 'fault'
      default:
        return ++this.#extensionBytes > this.#limits.extensionBytesMax ? 'fault' : this.#stepExtension(code)
    }
  }

  #stepSize(code: number): State {
    const digit = toHexDigit(code)
    if (digit >= 0) {
      this.#size = this.#size * 16 + digit
      return ++this.#digits > SIZE_DIGITS_MAX ? 'fault' : 'size'
    }
    if (this.#digits === 0) return 'fault'
    if (code === CR) return 'line-end'
    return code === SEMICOLON ? 'name-start' : 'fault'
  }

  /** `;name`, `;name=token` or `;name="text"`, any number of times. */
  #stepExtension(code: number): State {
    const isToken = TOKEN[code] === 1
    switch (this.#state) {
      case 'name-start':
        return isToken ? 'name' : 'fault'
      case 'name':
        if (isToken) return 'name'
        return code === EQUALS ? 'value-start' : toNextExtension(code)
      case 'value-start':
        if (code === QUOTE) return 'quoted'
        return isToken ? 'value' : 'fault'
      case 'value':
        return isToken ? 'value' : toNextExtension(code)
      case 'quoted':
        if (code === QUOTE) return 'quoted-end'
        if (code === BACKSLASH) return 'escaped'
        return FIELD_VALUE[code] === 1 ? 'quoted' : 'fault'
      case 'escaped':
        return FIELD_VALUE[code] === 1 ? 'quoted' : 'fault'
      default:
        return toNextExtension(code)
    }
  }
}

function hasFraming(trailers: readonly string[]): boolean {
  for (let i = 0; i < trailers.length; i += 2) {
    const name = trailers[i] ?? ''
    if (FRAMING_FIELDS.has(name.toLowerCase())) return true
  }
  return false
}

function toNextExtension(code: number): State {
  if (code === CR) return 'line-end'
  return code === SEMICOLON ? 'name-start' : 'fault'
}
