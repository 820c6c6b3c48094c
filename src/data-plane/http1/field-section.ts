import { COLON, CR, FIELD_VALUE, LF, SPACE, TAB, TOKEN } from './characters.ts'

/*
 * Field sections of HTTP/1.1 (RFC 9112 section 5), read from bytes without I/O. Readers look at
 * the octets in order and decide by those they have seen alone, so it makes no difference how a
 * stream is cut into pieces. They return the offset behind what they read, or one of these.
 */

/** Nothing is wrong so far, and more bytes are needed. */
export const INCOMPLETE = -1
export const MALFORMED = -2
export const TOO_MANY_FIELDS = -3
export const TOO_LARGE = -4
export const TARGET_TOO_LONG = -5

/** Where names and values start and end: four offsets for each field. */
export function createMarks(fieldsMax: number): Int32Array {
  return new Int32Array(4 * fieldsMax)
}

/**
 * Reads fields up to and including the empty line. Refuses bare CR and LF, folded lines, space
 * before the colon, names that are no tokens and control characters in values. The room
 * in `marks` bounds the number of fields.
 */
export function readFieldSection(bytes: Uint8Array, start: number, end: number, marks: Int32Array): number {
  let at = start
  for (let mark = 0; ; mark += 4) {
    if (at >= end) return INCOMPLETE
    if (bytes[at] === CR) {
      if (at + 1 >= end) return INCOMPLETE
      if (bytes[at + 1] !== LF) return MALFORMED
      // The end of the list, where it is not full.
      if (mark < marks.length) marks[mark + 1] = 0
      return at + 2
    }
    if (mark === marks.length) return TOO_MANY_FIELDS
    at = readFieldLine(bytes, at, end, marks, mark)
    if (at < 0) return at
  }
}

function readFieldLine(
  bytes: Uint8Array,
  start: number,
  end: number,
  marks: Int32Array,
  mark: number,
): number {
  let at = start
  while (at < end && TOKEN[bytes[at] ?? 0] === 1) at++
  if (at >= end) return INCOMPLETE
  if (at === start || bytes[at] !== COLON) return MALFORMED
  marks[mark] = start
  marks[mark + 1] = at
  at++
  while (at < end && (bytes[at] === SPACE || bytes[at] === TAB)) at++
  const valueStart = at
  while (at < end && FIELD_VALUE[bytes[at] ?? 0] === 1) at++
  if (at >= end) return INCOMPLETE
  if (bytes[at] !== CR) return MALFORMED
  if (at + 1 >= end) return INCOMPLETE
  if (bytes[at + 1] !== LF) return MALFORMED
  let valueEnd = at
  // Only spaces: readers differ on a tab here, so one behind `chunked` or a length stays and is refused.
  while (valueEnd > valueStart && bytes[valueEnd - 1] === SPACE) valueEnd--
  marks[mark + 2] = valueStart
  marks[mark + 3] = valueEnd
  return at + 2
}

/**
 * The fields of a section as a raw list. `text` is the Latin-1 text of the bytes from `base` on,
 * the offset that the marks start from.
 */
export function toRawFields(text: string, base: number, marks: Int32Array): string[] {
  const fields: string[] = []
  for (let mark = 0; mark < marks.length; mark += 4) {
    const nameEnd = marks[mark + 1] ?? 0
    if (nameEnd === 0) break
    fields.push(
      text.slice((marks[mark] ?? 0) - base, nameEnd - base),
      text.slice((marks[mark + 2] ?? 0) - base, (marks[mark + 3] ?? 0) - base),
    )
  }
  return fields
}
