import { BodyReader } from './body-reader.ts'
import type { ResponseParser } from './response-parser.ts'

/**
 * The body that follows the head just parsed, in answer to `method` (RFC 9112 section 6.3);
 * `undefined` for an informational answer that announces one, or an end: no two readers agree on it.
 */
export function openResponseBody(parser: ResponseParser, method: string): BodyReader | undefined {
  const { status, framing } = parser
  if (status < 200) return isOdd(parser) ? undefined : BodyReader.ofLength(0)
  if (method === 'HEAD' || status === 204 || status === 304) return BodyReader.ofLength(0)
  if (framing.isChunked) return BodyReader.ofChunks()
  return framing.contentLength >= 0 ? BodyReader.ofLength(framing.contentLength) : BodyReader.untilClose()
}

/**
 * Whether another request may follow on the connection once this answer is read to its end. After
 * a 204 that announces a body the body may come, and would be taken for the next answer.
 */
export function mayReuseConnection(parser: ResponseParser, body: BodyReader): boolean {
  if (parser.minor !== 1 || parser.framing.wantsClose || body.isUntilClose) return false
  return parser.status !== 204 || !announcesBody(parser)
}

function isOdd(parser: ResponseParser): boolean {
  return announcesBody(parser) || parser.framing.wantsClose || parser.minor !== 1
}

export function announcesBody({ framing }: ResponseParser): boolean {
  return framing.isChunked || framing.contentLength > 0
}
