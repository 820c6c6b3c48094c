import type { RawFields, SteadyFields } from '../../ports/transport.ts'
import { encodeFields, encodeSteady } from '../http1/encode.ts'
import { CLOSE, type RawFrontState, toDateLine, toStatusLine } from './raw-state.ts'

/** How the body of an answer is delimited (RFC 9112 section 6.3); `none`: there is no body. */
export type AnswerFraming = 'none' | 'length' | 'chunked' | 'close'

interface Asked {
  readonly method: string
  readonly httpVersion: '1.0' | '1.1'
}

/** `contentLength` is -1 where none is announced. */
export function toAnswerFraming(request: Asked, status: number, contentLength: number): AnswerFraming {
  if (request.method === 'HEAD' || status === 204 || status === 304) return 'none'
  if (contentLength >= 0) return 'length'
  return request.httpVersion === '1.1' ? 'chunked' : 'close'
}

/** Throws where the answer is unfit for the wire. */
export function encodeAnswerHead(
  state: RawFrontState,
  status: number,
  steady: SteadyFields,
  fresh: RawFields,
  framing: AnswerFraming,
  closes: boolean,
): string {
  const { text, trailer, hasDate } = encodeSteady(steady)
  const date = hasDate ? '' : toDateLine(state)
  const coding = framing === 'chunked' ? `${trailer}Transfer-Encoding: chunked\r\n` : ''
  return `${toStatusLine(status)}${text}${encodeFields(fresh)}${date}${coding}${closes ? CLOSE : ''}\r\n`
}
