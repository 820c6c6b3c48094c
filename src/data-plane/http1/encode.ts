import type { EncodedFields, RawFields, SteadyFields } from '../../ports/transport.ts'
import { equalsIgnoreCase } from '../raw-headers.ts'
import { parseLength } from './framing.ts'

const LF = '\n'
const COLON = ': '
const END = '\r\n'

/*
 * Heads as text, one character for each byte. Fields come from strict parsers, the checked
 * configuration and our own hands; that none of them ends its line before its time is made sure of
 * once more, by counting lines. Not so for fresh fields: these are our own, or were checked letter by
 * letter (request ids, trace contexts, origins).
 */

export function encodeFields(fields: readonly string[]): string {
  let text = ''
  for (let i = 0; i < fields.length; i += 2) text += (fields[i] ?? '') + COLON + (fields[i + 1] ?? '') + END
  return text
}

/** The head as it is; throws where it has more or fewer lines than it was made of. */
export function assertLines(head: string, lines: number): string {
  let found = 0
  for (let at = head.indexOf(LF); at >= 0; at = head.indexOf(LF, at + 1)) found++
  if (found !== lines) throw new TypeError('a head is unfit for the wire')
  return head
}

/** Text of one line, as it is; throws where it would end the line. */
export function assertNoLineEnd(text: string): string {
  if (text.includes(LF)) throw new TypeError('a line is unfit for the wire')
  return text
}

/** The fields as lines, which stay with them. Throws where they announce two lengths or a bad one. */
export function encodeSteady(fields: SteadyFields): EncodedFields {
  fields.encoded ??= encode(fields.list)
  return fields.encoded
}

function encode(fields: RawFields): EncodedFields {
  let text = ''
  let trailer = ''
  let contentLength = -1
  let hasDate = false
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] ?? ''
    const value = fields[i + 1] ?? ''
    const line = name + COLON + value + END
    if (name.length === 7 && equalsIgnoreCase(name, 'trailer')) {
      trailer += line
      continue
    }
    if (name.length === 14 && equalsIgnoreCase(name, 'content-length')) {
      if (contentLength >= 0) throw new TypeError('two lengths')
      contentLength = parseLength(value)
      if (contentLength < 0) throw new TypeError('a bad length')
    } else if (name.length === 4 && equalsIgnoreCase(name, 'date')) hasDate = true
    text += line
  }
  assertLines(text + trailer, fields.length / 2)
  return { text, trailer, contentLength, hasDate }
}
