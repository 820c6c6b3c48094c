import { assertLines, COLON, END } from '../http1/encode.ts'
import { parseLength } from '../http1/framing.ts'
import { equalsIgnoreCase } from '../raw-headers.ts'
import { type RawFrontState, toDateLine, toStatusLine } from './raw-state.ts'

export interface AnswerHead {
  readonly text: string
  /** How the body is delimited (RFC 9112 section 6.3); `none`: there is no body. */
  readonly framing: 'none' | 'length' | 'chunked' | 'close'
  readonly contentLength: number
}

/** Throws where the answer is unfit for the wire. */
export function encodeAnswerHead(
  state: RawFrontState,
  request: { readonly method: string; readonly httpVersion: '1.0' | '1.1' },
  status: number,
  fields: readonly string[],
  closes: boolean,
): AnswerHead {
  let text = toStatusLine(status)
  let trailer = ''
  let contentLength = -1
  let hasDate = false
  // Of the head, with the empty one.
  let lines = 2
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] ?? ''
    const value = fields[i + 1] ?? ''
    const line = name + COLON + value + END
    if (name.length === 14 && equalsIgnoreCase(name, 'content-length')) {
      if (contentLength >= 0) throw new TypeError('an answer with two lengths')
      contentLength = parseLength(value)
      if (contentLength < 0) throw new TypeError('an answer with a bad length')
    } else if (name.length === 7 && equalsIgnoreCase(name, 'trailer')) {
      // It may only stand where trailers can follow.
      trailer = line
      continue
    } else if (name.length === 4 && equalsIgnoreCase(name, 'date')) {
      hasDate = true
    }
    text += line
    lines++
  }
  const framing = toFraming(request, status, contentLength)
  if (!hasDate) {
    text += toDateLine(state)
    lines++
  }
  if (framing === 'chunked') {
    text += `${trailer}Transfer-Encoding: chunked\r\n`
    lines += trailer === '' ? 1 : 2
  }
  if (closes || framing === 'close') {
    text += 'Connection: close\r\n'
    lines++
  }
  return { text: assertLines(`${text}\r\n`, lines), framing, contentLength }
}

function toFraming(
  request: { readonly method: string; readonly httpVersion: '1.0' | '1.1' },
  status: number,
  contentLength: number,
): AnswerHead['framing'] {
  if (request.method === 'HEAD' || status === 204 || status === 304) return 'none'
  if (contentLength >= 0) return 'length'
  return request.httpVersion === '1.1' ? 'chunked' : 'close'
}
