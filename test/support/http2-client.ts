import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2'

/** Node's client of HTTP/2, as tests use it. */

export interface Http2Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: Buffer
  readonly trailers: Readonly<Record<string, string | string[] | undefined>>
  /** Whether the head was also the end. */
  readonly isHeadOnly: boolean
  /** Of the stream; 0 where it ended well. */
  readonly resetCode: number
}

export type Pairs = readonly (readonly [string, string])[]

export async function connectHttp2(port: number, options: object = {}): Promise<ClientHttp2Session> {
  const session = connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false, ...options })
  session.on('error', () => {})
  await new Promise<void>((resolve, reject) => {
    session.once('connect', () => resolve())
    session.once('error', reject)
  })
  return session
}

/** Opens a stream; its body is the caller's to write. */
export function open(
  session: ClientHttp2Session,
  method: string,
  path: string,
  pairs: Pairs = [],
  endStream = false,
): ClientHttp2Stream {
  const stream = session.request(
    [':method', method, ':scheme', 'https', ':authority', 'a.test', ':path', path, ...pairs.flat()],
    { endStream },
  )
  stream.on('error', () => {})
  return stream
}

export function readAnswer(stream: ClientHttp2Stream): Promise<Http2Answer> {
  const chunks: Buffer[] = []
  let headers: Record<string, string | string[] | undefined> = {}
  let trailers: Record<string, string | string[] | undefined> = {}
  let isHeadOnly = false
  stream.on('response', (fields, flags) => {
    headers = fields as typeof headers
    isHeadOnly = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0
  })
  stream.on('trailers', (fields) => {
    trailers = fields as typeof trailers
  })
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  return new Promise((resolve) => {
    stream.on('close', () => {
      const status = Number(headers[':status'] ?? 0)
      const body = Buffer.concat(chunks)
      resolve({ status, headers, body, trailers, isHeadOnly, resetCode: stream.rstCode })
    })
  })
}

/** A request without a body, or with one whose length is announced by nothing. */
export function ask(
  session: ClientHttp2Session,
  path: string,
  options: { readonly method?: string; readonly fields?: Pairs; readonly body?: string | Buffer } = {},
): Promise<Http2Answer> {
  const { method = 'GET', fields = [], body } = options
  const stream = open(session, method, path, fields, body === undefined)
  const answer = readAnswer(stream)
  if (body !== undefined) stream.end(body)
  return answer
}
