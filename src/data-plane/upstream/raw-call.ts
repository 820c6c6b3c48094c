import type {
  RawFields,
  TunnelStream,
  UpgradedSocket,
  UpstreamHandler,
  UpstreamRequest,
} from '../../ports/transport.ts'
import type { BodyReader } from '../http1/body-reader.ts'
import { INCOMPLETE } from '../http1/field-section.ts'
import { announcesBody, mayReuseConnection, openResponseBody } from '../http1/response-body.ts'
import type { ResponseParser } from '../http1/response-parser.ts'
import { equalsIgnoreCase, findField } from '../raw-headers.ts'
import { createTimeoutFault, INFORMATIONS_MAX, toFailureKind, UpstreamFault } from './failures.ts'
import type { PermitHolder, Permits } from './permits.ts'
import { drop, type RawPool } from './raw-pool.ts'
import { encodeRequestHead, RequestWriter } from './raw-request.ts'
import type { RawSocket, RawSocketUser } from './raw-socket.ts'
import { RawTunnel } from './raw-tunnel.ts'

const NOTHING = Buffer.alloc(0)
const NO_BODY = 0
const LF = 0x0a

/** What the calls of one target share. */
export interface RawCallDeps {
  readonly pool: RawPool
  readonly parser: ResponseParser
  readonly permits: Permits
}

/** One request to a target, on one connection. */
export class RawCall implements TunnelStream, PermitHolder, RawSocketUser {
  readonly waitMs: number
  readonly #deps: RawCallDeps
  readonly #request: UpstreamRequest
  readonly #handler: UpstreamHandler
  /** The client's socket, where it wants a tunnel. */
  readonly #upgraded: UpgradedSocket | undefined
  #socket: RawSocket | undefined = undefined
  #writer: RequestWriter | undefined = undefined
  #tunnel: RawTunnel | undefined = undefined
  #phase: 'waiting' | 'connection' | 'answer' | 'data' | 'done' = 'waiting'
  #isReused = false
  #hasAnswerByte = false
  #informations = 0
  /** A head as far as it has come, and how much of it was parsed in vain. */
  #held: Buffer = NOTHING
  #seen = 0
  #body: BodyReader | undefined = undefined
  #mayReuse = false

  constructor(
    deps: RawCallDeps,
    request: UpstreamRequest,
    handler: UpstreamHandler,
    upgraded: UpgradedSocket | undefined,
  ) {
    this.waitMs = request.connectMs
    this.#deps = deps
    this.#request = request
    this.#handler = handler
    this.#upgraded = upgraded
  }

  // The exchange calls these.

  writeBody(chunk: Uint8Array): boolean {
    if (this.#phase === 'done' || this.#writer === undefined) return true
    try {
      return this.#writer.write(chunk)
    } catch (error) {
      this.#failLater(error)
      return true
    }
  }

  endBody(trailers: RawFields): void {
    if (this.#phase === 'done' || this.#writer === undefined) return
    try {
      this.#writer.end(trailers)
    } catch (error) {
      this.#failLater(error)
      return
    }
    if (this.#phase === 'answer') this.#socket?.arm(this.#request.responseMs)
  }

  pause(): void {
    this.#socket?.pause()
  }

  resume(): void {
    const socket = this.#socket
    if (socket === undefined) return
    if (this.#phase === 'data') socket.arm(this.#request.idleMs)
    socket.resume()
  }

  abort(): void {
    if (this.#tunnel !== undefined) this.#tunnel.abort()
    else if (this.#phase !== 'done') this.#stop()
  }

  goAway(): void {
    this.#tunnel?.goAway()
  }

  // The permits call these; a tunnel needs none.

  onPermit(): void {
    const { pool } = this.#deps
    const needsFresh = this.#request.needsFresh || this.#upgraded !== undefined
    const idle = needsFresh ? undefined : pool.take()
    if (idle !== undefined) {
      idle.user = this
      this.#socket = idle
      this.#isReused = true
      this.#begin(idle)
      return
    }
    this.#phase = 'connection'
    try {
      this.#socket = pool.connect(this)
      this.#socket.arm(this.#request.connectMs)
    } catch (error) {
      this.#failLater(error)
    }
  }

  onNoPermit(): void {
    if (this.#phase === 'done') return
    this.#phase = 'done'
    const cause = 'no free connection'
    this.#handler.onUpstreamFailure({ kind: 'overloaded', isUnsent: true, isStale: false, cause })
  }

  // The socket calls these.

  onConnect(socket: RawSocket): void {
    this.#begin(socket)
  }

  onBytes(_socket: RawSocket, bytes: Buffer, end: number): void {
    this.#hasAnswerByte = true
    if (this.#held.length === 0) {
      this.#consume(bytes, end)
      return
    }
    const hasLine = bytes.subarray(0, end).includes(LF)
    const joined = Buffer.concat([this.#held, bytes.subarray(0, end)])
    this.#held = joined
    if (hasLine || joined.length >= 2 * this.#seen) this.#consume(joined, joined.length)
  }

  onDrain(): void {
    if (this.#writer?.onDrain() === true) this.#handler.onUpstreamDrain()
  }

  onEnd(): void {
    const endsBody = this.#phase === 'data' && this.#body?.isUntilClose === true
    if (endsBody) this.#complete(false)
    else this.#fail(new UpstreamFault('answer broken off'))
  }

  onClose(_socket: RawSocket, error: Error | undefined): void {
    this.#fail(error ?? new UpstreamFault('connection closed'))
  }

  onDeadline(socket: RawSocket): void {
    const writer = this.#writer
    // The upstream is not to blame while it is the client that keeps everybody waiting.
    if (this.#phase === 'answer' && writer !== undefined && !writer.isDone && !writer.isBlocked) {
      socket.arm(this.#request.responseMs)
    } else if (this.#phase === 'data' && socket.isPaused) {
      socket.arm(this.#request.idleMs)
    } else {
      this.#fail(createTimeoutFault(this.#phase))
    }
  }

  onReady(): void {
    const writer = this.#writer
    if (this.#phase === 'done' || writer === undefined) return
    writer.isGathering = true
    this.#handler.onUpstreamReady()
    writer.isGathering = false
    writer.flush()
  }

  #begin(socket: RawSocket): void {
    const request = this.#request
    const isReused = this.#isReused
    this.#phase = 'answer'
    socket.requests++
    socket.arm(request.responseMs)
    let head: string
    try {
      head = encodeRequestHead(request)
    } catch (error) {
      this.#failLater(error)
      return
    }
    if (!request.isChunked && request.contentLength <= NO_BODY) {
      socket.write(head)
      return
    }
    this.#writer = new RequestWriter(socket, head, request.isChunked ? -1 : request.contentLength)
    if (isReused) process.nextTick(onReady, this)
    else this.onReady()
  }

  #consume(bytes: Buffer, end: number): void {
    let at = 0
    while (at >= 0) {
      if (this.#phase === 'answer') at = this.#takeHead(bytes, at, end)
      else if (this.#phase === 'data') at = this.#takeBody(bytes, at, end)
      else return
    }
  }

  /** The offset to go on from; -1 where there is nothing to go on with. */
  #takeHead(bytes: Buffer, at: number, end: number): number {
    if (at === end) return this.#hold(NOTHING)
    const { parser } = this.#deps
    const next = parser.parse(bytes, at, end, this.#socket?.recent)
    if (next === INCOMPLETE) return this.#hold(Buffer.from(bytes.subarray(at, end)))
    this.#hold(NOTHING)
    if (next < 0) {
      this.#fail(new UpstreamFault('malformed head of an answer'))
      return next
    }
    if (this.#socket !== undefined) this.#socket.recent = parser.recent
    const body = openResponseBody(parser, this.#request.method)
    if (parser.status === 101) this.#switch(parser.rawHeaders, bytes.subarray(next, end))
    else if (parser.status < 200) this.#inform(parser, body)
    else this.#answer(parser, body)
    return next
  }

  #hold(bytes: Buffer): number {
    this.#held = bytes
    this.#seen = bytes.length
    return -1
  }

  #inform({ status, rawHeaders }: ResponseParser, body: BodyReader | undefined): void {
    if (body === undefined || ++this.#informations > INFORMATIONS_MAX) {
      this.#fail(new UpstreamFault('unwanted informational answer'))
    } else if (status !== 100) {
      this.#handler.onInformation(status, rawHeaders)
    }
  }

  #answer(parser: ResponseParser, body: BodyReader | undefined): void {
    if (body === undefined) return
    if (this.#upgraded !== undefined && parser.status === 204 && announcesBody(parser)) {
      this.#fail(new UpstreamFault('a body where there can be none'))
      return
    }
    this.#body = body
    this.#mayReuse = mayReuseConnection(parser, body)
    this.#phase = 'data'
    this.#socket?.arm(this.#request.idleMs)
    this.#handler.onAnswerHead(parser.status, parser.rawHeaders, parser.recent?.recollection)
  }

  #takeBody(bytes: Buffer, at: number, end: number): number {
    const body = this.#body
    if (body === undefined) return -1
    const next = body.next(bytes, at, end)
    switch (body.event) {
      case 'data':
        this.#socket?.arm(this.#request.idleMs)
        this.#handler.onAnswerChunk(bytes.subarray(body.dataStart, body.dataEnd))
        return next
      case 'end':
        this.#complete(next === end)
        return -1
      case 'fault':
        this.#fail(new UpstreamFault('malformed body of an answer'))
        return -1
      case 'more':
        return -1
    }
  }

  /** `isClean`: nothing stands behind the answer. */
  #complete(isClean: boolean): void {
    const socket = this.#socket
    if (socket === undefined) return
    const isSent = this.#writer === undefined || this.#writer.isDone
    this.#phase = 'done'
    this.#socket = undefined
    if (isClean && isSent && this.#mayReuse && this.#upgraded === undefined) this.#deps.pool.give(socket)
    else drop(socket)
    this.#release()
    this.#handler.onAnswerEnd(this.#body?.trailers ?? [])
  }

  /** The upstream says that it switches; good only where that was asked for. */
  #switch(fields: readonly string[], surplus: Buffer): void {
    const socket = this.#socket
    const client = this.#upgraded
    const protocol = findField(fields, 'upgrade') ?? ''
    if (client === undefined || socket === undefined || !equalsIgnoreCase(protocol, 'websocket')) {
      this.#fail(new UpstreamFault('unwanted protocol'))
      return
    }
    this.#phase = 'done'
    this.#socket = undefined
    this.#tunnel = new RawTunnel(socket, client, this.#handler, this.#request.idleMs)
    this.#tunnel.start(this.#handler.onSwitch(fields), surplus)
  }

  #fail(cause: unknown): void {
    if (this.#phase === 'done') return
    const isUnsent = this.#phase === 'waiting' || this.#phase === 'connection'
    const kind = toFailureKind(cause)
    const isStale = kind === 'unreachable' && this.#isReused && !this.#hasAnswerByte
    this.#stop()
    this.#handler.onUpstreamFailure({ kind, isUnsent, isStale, cause })
  }

  /** Handlers are not called from inside a call of theirs. */
  #failLater(cause: unknown): void {
    queueMicrotask(() => this.#fail(cause))
  }

  #stop(): void {
    const isWaiting = this.#phase === 'waiting'
    const socket = this.#socket
    this.#phase = 'done'
    this.#socket = undefined
    this.#held = NOTHING
    if (this.#writer !== undefined) this.#writer.isCancelled = true
    if (socket !== undefined) drop(socket)
    if (isWaiting) this.#deps.permits.cancel(this)
    else this.#release()
  }

  #release(): void {
    if (this.#upgraded === undefined) this.#deps.permits.release()
  }
}

function onReady(call: RawCall): void {
  call.onReady()
}
