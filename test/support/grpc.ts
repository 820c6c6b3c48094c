import { createSecureServer, createServer, type Http2Server, type ServerHttp2Stream } from 'node:http2'
import type { AddressInfo } from 'node:net'

/** gRPC by hand: messages with five bytes in front, the status in trailers. No protobuf, no library. */

export function encodeMessage(text: string): Buffer {
  const body = Buffer.from(text)
  const head = Buffer.alloc(5)
  head.writeUInt32BE(body.length, 1)
  return Buffer.concat([head, body])
}

/** Calls back for each whole message. */
export function readMessages(onMessage: (text: string) => void): (chunk: Buffer) => void {
  let received = Buffer.alloc(0)
  return (chunk) => {
    received = Buffer.concat([received, chunk])
    while (received.length >= 5 && received.length >= 5 + received.readUInt32BE(1)) {
      const end = 5 + received.readUInt32BE(1)
      onMessage(received.toString('utf8', 5, end))
      received = received.subarray(end)
    }
  }
}

export interface GrpcUpstream {
  readonly port: number
  readonly url: string
  /** Heads of the calls, as they came. */
  readonly calls: Readonly<Record<string, string | string[] | undefined>>[]
  /** With what code calls were reset that had not ended. */
  readonly resets: number[]
  /** All that there were. */
  readonly sessions: () => number
  readonly openSessions: () => number
  /** With a goodbye. */
  endSessions(): void
  close(): Promise<void>
}

/** `/echo.Echo/Unary`, `…/List`, `…/Chat`, `…/Fail` and `…/Hang`. */
export async function startGrpcUpstream(tls?: {
  readonly cert: Buffer
  readonly key: Buffer
  readonly ca?: Buffer
}): Promise<GrpcUpstream> {
  const calls: GrpcUpstream['calls'] = []
  const resets: number[] = []
  const open = new Set<{ destroy(): void; close(): void }>()
  let sessions = 0
  const server: Http2Server =
    tls === undefined
      ? createServer()
      : createSecureServer({ ...tls, requestCert: tls.ca !== undefined, rejectUnauthorized: true })
  server.on('session', (session) => {
    sessions++
    open.add(session)
    session.on('error', () => {})
    session.on('close', () => open.delete(session))
  })
  server.on('stream', (stream, headers) => {
    calls.push({ ...headers })
    stream.on('error', () => {})
    stream.on('aborted', () => resets.push(stream.rstCode))
    serve(stream, String(headers[':path']))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    port,
    url: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`,
    calls,
    resets,
    sessions: () => sessions,
    openSessions: () => open.size,
    endSessions: () => {
      for (const session of open) session.close()
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const session of open) session.destroy()
      }),
  }
}

function serve(stream: ServerHttp2Stream, path: string): void {
  const begin = () =>
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
  const finish = { 'grpc-status': '0', 'x-seen': 'all' }
  stream.on('wantTrailers', () => stream.sendTrailers(finish))
  const messages: string[] = []
  switch (path.split('/').at(-1)) {
    case 'Unary':
      stream.on(
        'data',
        readMessages((text) => messages.push(text)),
      )
      stream.on('end', () => {
        begin()
        stream.end(encodeMessage(`echo ${messages.join()}`))
      })
      return
    case 'List':
      stream.resume()
      begin()
      for (let n = 0; n < 100; n++) stream.write(encodeMessage(`item ${n} ${'x'.repeat(2000)}`))
      stream.end()
      return
    case 'Chat':
      begin()
      stream.on(
        'data',
        readMessages((text) => stream.write(encodeMessage(`echo ${text}`))),
      )
      stream.on('end', () => stream.end())
      return
    case 'Fail':
      stream.resume()
      stream.respond(
        { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '9', 'grpc-message': 'not now' },
        { endStream: true },
      )
      return
    case 'Break':
      begin()
      stream.write(encodeMessage('part'))
      setTimeout(() => stream.close(2), 50)
      return
    default:
      stream.resume()
  }
}
