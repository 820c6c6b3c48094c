import { Buffer } from 'node:buffer'
import { decodePercent, decodePercentInPlace, toByte } from './percent.ts'

/*
 * How a path may be read. Servers differ in what they do to a path before they use it, so a path
 * that holds anything special has several plausible readings; a gateway that picks one and an
 * upstream that picks another is a way around the gateway.
 *
 * A reading is a set of the flags below. The canonical one, by which routes are matched, has all
 * that make a difference to the path; the plausible ones are its subsets.
 */

/** Empty segments (`//`) are dropped. */
const MERGES = 1
/** Percent-encoding is undone, once. */
const DECODES = 2
const SPLITS_AT_ENCODED_SLASH = 4
const SPLITS_AT_ENCODED_BACKSLASH = 8
const SPLITS_AT_BACKSLASH = 16

const SLASH = 0x2f
const BACKSLASH = 0x5c
const PERCENT = 0x25
const DOT = 0x2e
const SEMICOLON = 0x3b

/** How often percent-encoding may be nested; no honest client nests it deeper. */
export const NESTING_MAX = 3

/** How much of a path a table of routes can tell apart; nothing beyond needs to be read. */
export interface ReadLimits {
  readonly segmentsMax: number
  readonly segmentLengthMax: number
}

/**
 * Whether a path can be read in one way only: no `%`, no backslash, no `//`, and no segment that
 * starts with a dot.
 */
export function isPlain(path: string): boolean {
  let previous = 0
  for (let i = 0; i < path.length; i++) {
    const code = path.charCodeAt(i)
    if (code === PERCENT || code === BACKSLASH) return false
    if (previous === SLASH && (code === SLASH || code === DOT)) return false
    previous = code
  }
  return true
}

/**
 * Whether a segment is `.` or `..` in any encoding, nested and overlong ones included, between
 * separators in any encoding, and with path parameters (`..;x`) too. Also true where encodings
 * are nested deeper than `NESTING_MAX`.
 */
export function hasDotSegment(path: string): boolean {
  const bytes = Buffer.from(path, 'latin1')
  let length = bytes.length
  for (let nesting = 0; nesting <= NESTING_MAX; nesting++) {
    if (hasPlainDotSegment(bytes, length)) return true
    const decodedLength = decodePercentInPlace(bytes, length)
    if (decodedLength === length) return false
    length = decodedLength
  }
  return true
}

function hasPlainDotSegment(bytes: Uint8Array, length: number): boolean {
  // Dots since the segment began, as long as it holds nothing else; else -1.
  let dots = -1
  for (let i = 0; i <= length; i++) {
    const code = i < length ? readOverlong(bytes, i) : SLASH
    if (code < 0x80 && (bytes[i] ?? 0) >= 0xc0) i++
    const isSeparator = code === SLASH || code === BACKSLASH
    if ((isSeparator || code === SEMICOLON) && (dots === 1 || dots === 2)) return true
    if (isSeparator) dots = 0
    else dots = code === DOT && dots >= 0 ? dots + 1 : -1
  }
  return false
}

/** The byte at `i`, or the ASCII character that it and the next one stand for in overlong UTF-8. */
function readOverlong(bytes: Uint8Array, i: number): number {
  const byte = bytes[i] ?? 0
  const next = bytes[i + 1] ?? 0
  const isOverlong = (byte === 0xc0 || byte === 0xc1) && (next & 0xc0) === 0x80
  return isOverlong ? ((byte & 1) << 6) | (next & 0x3f) : byte
}

/**
 * A path split wherever any reading may split it, so that each reading is a short walk over it.
 * All lists run in parallel, one entry for each segment.
 */
export interface PathParts {
  readonly decoded: string[]
  /** The same segments with their percent-encoding. */
  readonly raw: string[]
  /** The flags without which a reading does not see a segment begin here. */
  readonly gates: number[]
  /** The flag without which a reading does not see the segment end, but goes on in it; 0 for none. */
  readonly ends: number[]
  /** The canonical reading: all flags that make a difference to this path. */
  canonical: number
}

/** Splits as far as the limits go; behind a segment that is too long nothing can match. */
export function splitPath(path: string, limits: ReadLimits): PathParts {
  const parts: PathParts = { decoded: [], raw: [], gates: [], ends: [], canonical: 0 }
  const lengthMax = 3 * limits.segmentLengthMax
  let i = 0
  while (parts.raw.length < limits.segmentsMax) {
    let gate = 0
    for (let units = 0, flag = toSeparator(path, i); flag >= 0; flag = toSeparator(path, i), units++) {
      gate |= units === 0 ? flag : flag | MERGES
      i += toUnitLength(flag)
    }
    const start = i
    while (i < path.length && i - start <= lengthMax && toSeparator(path, i) < 0) i++
    if (i === start || i - start > lengthMax) return parts
    addSegment(parts, path.slice(start, i), gate, Math.max(0, toSeparator(path, i)))
  }
  return parts
}

function addSegment(parts: PathParts, raw: string, gate: number, end: number): void {
  const decoded = decodePercent(raw)
  parts.raw.push(raw)
  parts.decoded.push(decoded)
  parts.gates.push(gate)
  parts.ends.push(end)
  parts.canonical |= gate | end | (decoded === raw ? 0 : DECODES)
}

/** The flag that makes a separator of what stands at `i`; 0 for a plain slash, -1 for anything else. */
function toSeparator(path: string, i: number): number {
  const code = path.charCodeAt(i)
  if (code === SLASH) return 0
  if (code === BACKSLASH) return SPLITS_AT_BACKSLASH
  if (code !== PERCENT) return -1
  const byte = toByte(path.charCodeAt(i + 1), path.charCodeAt(i + 2))
  if (byte === SLASH) return SPLITS_AT_ENCODED_SLASH
  return byte === BACKSLASH ? SPLITS_AT_ENCODED_BACKSLASH : -1
}

function toUnitLength(separator: number): number {
  return separator === 0 || separator === SPLITS_AT_BACKSLASH ? 1 : 3
}

/** The plausible reading after this one, or -1: all subsets of the canonical one come in turn. */
export function toNextReading(reading: number, canonical: number): number {
  return reading === 0 ? -1 : (reading - 1) & canonical
}

/** The segment at this place in one reading; `undefined` where that reading has another one there. */
export function readSegment(parts: PathParts, place: number, reading: number): string | undefined {
  const needed = (parts.gates[place] ?? 0) | (parts.ends[place] ?? 0)
  if ((needed & ~reading) !== 0) return undefined
  return (reading & DECODES) === 0 ? parts.raw[place] : parts.decoded[place]
}
