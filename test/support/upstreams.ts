import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createHttpsServer, type ServerOptions } from 'node:https'
import { type AddressInfo, createServer as createNetServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/** Servers to put behind a gateway, on real sockets. All of them count what reaches them. */

export interface SeenRequest {
  readonly method: string
  readonly target: string
  readonly rawHeaders: readonly string[]
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
  readonly trailers: IncomingMessage['trailers']
}

export interface Upstream {
  readonly port: number
  readonly url: string
  /** Connections accepted so far. */
  connections: number
  readonly openSockets: ReadonlySet<Socket>
  close(): Promise<void>
}

export interface HttpUpstream extends Upstream {
  /** Requests that arrived whole. */
  readonly seen: SeenRequest[]
  /** Requests whose head arrived. */
  begun: number
  /** Requests whose body broke off. */
  brokenOff: number
}

type UpgradeHandler = (request: IncomingMessage, socket: Duplex, head: Buffer) => void

export type HttpHandler = (request: IncomingMessage, answer: ServerResponse, body: Buffer) => void

const sayOk: HttpHandler = (_request, answer) => {
  answer.end('ok')
}

/** Reads each request whole, then lets the handler answer. Port 0 takes any free one. */
export async function startHttpUpstream(
  handler: HttpHandler = sayOk,
  port = 0,
  host = '127.0.0.1',
): Promise<HttpUpstream> {
  const state = createHttpState()
  const server = createHttpServer((request, answer) => collect(state, request, answer, handler))
  return await open(server, 'http', state, { port, host })
}

/** The same behind TLS. */
export async function startHttpsUpstream(
  options: ServerOptions,
  handler: HttpHandler = sayOk,
): Promise<HttpUpstream & { onUpgrade(handler: UpgradeHandler): void }> {
  const server = createHttpsServer(options, (request, answer) => collect(state, request, answer, handler))
  const state = {
    ...createHttpState(),
    onUpgrade: (listener: UpgradeHandler) => server.on('upgrade', listener),
  }
  return await open(server, 'https', state)
}

/** Hands over each request as soon as its head is there; the body is the handler's to read. */
export async function startStreamingUpstream(
  handler: (request: IncomingMessage, answer: ServerResponse) => void,
): Promise<HttpUpstream> {
  const state = createHttpState()
  const server = createHttpServer({ highWaterMark: 16 * 1024 }, (request, answer) => {
    state.begun++
    request.on('error', () => {})
    request.on('aborted', () => {
      state.brokenOff++
    })
    answer.on('error', () => {})
    handler(request, answer)
  })
  server.requestTimeout = 0
  return await open(server, 'http', state)
}

/** A server of plain TCP: `handler` sees every connection. */
export async function startRawUpstream(handler: (socket: RawUpstreamSocket) => void): Promise<Upstream> {
  const server = createNetServer({ noDelay: true, allowHalfOpen: false }, (socket) => {
    handler(new RawUpstreamSocket(socket))
  })
  return await open(server, 'http', {})
}

/** Answers every request head on every connection with these bytes. */
export async function startScriptedUpstream(...parts: (string | Buffer)[]): Promise<Upstream> {
  return await startRawUpstream((connection) => {
    connection.onHead(() => connection.write(...parts))
  })
}

export class RawUpstreamSocket {
  readonly socket: Socket
  #received = Buffer.alloc(0)
  #onHead: ((head: string) => void) | undefined

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      this.#received = Buffer.concat([this.#received, chunk])
      for (let end = this.#received.indexOf('\r\n\r\n'); end >= 0 && this.#onHead; ) {
        const head = this.#received.toString('latin1', 0, end)
        this.#received = this.#received.subarray(end + 4)
        this.#onHead(head)
        end = this.#received.indexOf('\r\n\r\n')
      }
    })
  }

  /** What came behind the last head. */
  get rest(): string {
    return this.#received.toString('latin1')
  }

  /** Stops looking for heads: all that follows is in `rest`. */
  onFirstHead(callback: (head: string) => void): void {
    this.#onHead = (head) => {
      this.#onHead = undefined
      callback(head)
    }
  }

  onHead(callback: (head: string) => void): void {
    this.#onHead = callback
  }

  write(...parts: (string | Buffer)[]): void {
    for (const part of parts) this.socket.write(typeof part === 'string' ? Buffer.from(part, 'latin1') : part)
  }
}

/** A port on which nobody listens: bound once and given back. */
export async function findClosedPort(): Promise<number> {
  const upstream = await startRawUpstream(() => {})
  await upstream.close()
  return upstream.port
}

interface HttpState {
  readonly seen: SeenRequest[]
  begun: number
  brokenOff: number
}

function createHttpState(): HttpState {
  return { seen: [], begun: 0, brokenOff: 0 }
}

function collect(
  state: HttpState,
  request: IncomingMessage,
  answer: ServerResponse,
  handler: HttpHandler,
): void {
  state.begun++
  const chunks: Buffer[] = []
  answer.on('error', () => {})
  request.on('error', () => {})
  request.on('aborted', () => {
    state.brokenOff++
  })
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    const { method = '', url: target = '', rawHeaders, headers, trailers } = request
    const body = Buffer.concat(chunks)
    state.seen.push({ method, target, rawHeaders, headers, body, trailers })
    handler(request, answer, body)
  })
}

async function open<State extends object>(
  server: Server,
  scheme: 'http' | 'https',
  state: State,
  listen: { readonly port: number; readonly host: string } = { port: 0, host: '127.0.0.1' },
): Promise<Upstream & State> {
  const openSockets = new Set<Socket>()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(listen.port, listen.host, resolve)
  })
  const { port } = server.address() as AddressInfo
  const upstream: Upstream & State = Object.assign(state, {
    port,
    url: `${scheme}://127.0.0.1:${port}`,
    connections: 0,
    openSockets,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        for (const socket of openSockets) socket.destroy()
      }),
  })
  server.on('connection', (socket: Socket) => {
    upstream.connections++
    openSockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => openSockets.delete(socket))
  })
  return upstream
}
