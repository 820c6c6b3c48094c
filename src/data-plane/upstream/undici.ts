import type { EventEmitter } from 'node:events'
import { Readable } from 'node:stream'
import { buildConnector, Client, type Dispatcher } from 'undici'
import type { RawFields, UpstreamHandler, UpstreamRequest, UpstreamStream } from '../../ports/transport.ts'
import { listFields } from '../message-fields.ts'
import {
  ANSWER_HEAD_BYTES_MAX,
  createTimeoutFault,
  hasForeignCoding,
  INFORMATIONS_MAX,
  isCloseDelimited,
  toFailureKind,
  UpstreamFault,
} from './failures.ts'
import { type Origin, toTlsOptions } from './origin.ts'
import type { PermitHolder, Permits } from './permits.ts'

/*
 * The usual way to a target: undici's low-level dispatch. Each slot is one undici client, that is
 * one connection at a time, so that we know whether a request went out on a used connection, and
 * what became of its socket. Chunked requests go another way (node-http.ts), because undici can
 * send neither their trailers nor their head before their body.
 */

/** A connection that has been idle for longer is closed, unless the upstream asks for less. */
const KEEP_ALIVE_MS = 4000

class Slot {
  readonly client: Client
  isConnected = false
  /** Requests begun on the present connection. */
  requests = 0
  /** The present connection's socket reported an error. */
  hasFailed = false

  constructor(origin: Origin, connectMsMax: number) {
    const connect = buildConnector({
      timeout: connectMsMax,
      allowH2: false,
      ...toTlsOptions(origin),
    })
    this.client = new Client(origin.url, {
      allowH2: false,
      pipelining: 1,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveTimeoutThreshold: 1000,
      maxHeaderSize: ANSWER_HEAD_BYTES_MAX,
      // The servername of the dispatch options only keeps undici from taking the client's Host for it.
      connect: (options, callback) =>
        connect({ ...options, hostname: origin.address, servername: origin.servername }, (...outcome) => {
          outcome[1]?.on('error', () => {
            this.hasFailed = true
          })
          callback(...outcome)
        }),
    })
    this.client.on('connect', () => {
      this.isConnected = true
      this.requests = 0
      this.hasFailed = false
    })
    this.client.on('disconnect', () => {
      this.isConnected = false
    })
    // Only a bug in a handler gets here; without a listener it would end the thread.
    const emitter: EventEmitter = this.client
    emitter.on('error', () => {})
  }
}

export class UndiciPool {
  readonly origin: Origin
  readonly #connectMsMax: number
  /** Last in, first out, so that a quiet target keeps few connections. */
  readonly #idle: Slot[] = []
  #isClosed = false

  constructor(origin: Origin, connectMsMax: number) {
    this.origin = origin
    this.#connectMsMax = connectMsMax
  }

  take(needsFresh: boolean): Slot {
    const slot = this.#idle.pop()
    if (slot === undefined) return new Slot(this.origin, this.#connectMsMax)
    if (!needsFresh || !slot.isConnected) return slot
    this.drop(slot)
    return new Slot(this.origin, this.#connectMsMax)
  }

  give(slot: Slot): void {
    if (this.#isClosed) this.drop(slot)
    else this.#idle.push(slot)
  }

  drop(slot: Slot): void {
    void slot.client.destroy().catch(() => {})
  }

  close(): void {
    this.#isClosed = true
    for (const slot of this.#idle.splice(0)) this.drop(slot)
  }
}

/** Hands chunks to undici as they come; undici pulls, and its pulls become ready and drain. */
class BodySource extends Readable {
  readonly #call: UndiciCall

  constructor(call: UndiciCall) {
    super({ highWaterMark: 64 * 1024 })
    this.#call = call
  }

  override _read(): void {
    this.#call.onBodyWanted()
  }
}

export class UndiciCall implements UpstreamStream, PermitHolder, Dispatcher.DispatchHandler {
  readonly waitMs: number
  readonly #pool: UndiciPool
  readonly #permits: Permits
  readonly #request: UpstreamRequest
  readonly #handler: UpstreamHandler
  readonly #body: BodySource | undefined
  #slot: Slot | undefined
  #controller: Dispatcher.DispatchController | undefined
  #connectTimer: NodeJS.Timeout | undefined
  #isDone = false
  #isDispatching = false
  #isBodyWanted = false
  #isBodyBlocked = false
  #isReused = false
  #hasAnswerByte = false
  #endsWithConnection = false
  #informations = 0

  constructor(pool: UndiciPool, permits: Permits, request: UpstreamRequest, handler: UpstreamHandler) {
    this.waitMs = request.connectMs
    this.#pool = pool
    this.#permits = permits
    this.#request = request
    this.#handler = handler
    this.#body = request.contentLength > 0 ? new BodySource(this) : undefined
    this.#body?.on('error', () => {})
  }

  // The exchange calls these.

  writeBody(chunk: Uint8Array): boolean {
    if (this.#isDone || this.#body === undefined || this.#body.push(Buffer.from(chunk))) return true
    this.#isBodyBlocked = true
    return false
  }

  endBody(): void {
    if (!this.#isDone) this.#body?.push(null)
  }

  pause(): void {
    this.#controller?.pause()
  }

  resume(): void {
    if (!this.#isDone) this.#controller?.resume()
  }

  abort(): void {
    if (!this.#isDone) this.#stop()
  }

  // The permits call these.

  onPermit(): void {
    const request = this.#request
    const slot = this.#pool.take(request.needsFresh)
    this.#slot = slot
    if (!slot.isConnected) this.#connectTimer = setTimeout(onConnectTimeout, request.connectMs, this)
    // `servername` is read by undici but missing in its types.
    const options: Dispatcher.DispatchOptions & { readonly servername: string } = {
      path: request.target,
      method: request.method,
      headers: listFields(request),
      body: this.#body ?? null,
      headersTimeout: request.responseMs,
      bodyTimeout: request.idleMs,
      servername: this.#pool.origin.hostname,
    }
    this.#isDispatching = true
    slot.client.dispatch(options, this)
    this.#isDispatching = false
  }

  onNoPermit(): void {
    if (this.#isDone) return
    this.#isDone = true
    this.#handler.onUpstreamFailure({
      kind: 'overloaded',
      isUnsent: true,
      isStale: false,
      cause: 'no free connection',
    })
  }

  // The body's source and the timer call these.

  onBodyWanted(): void {
    if (this.#isDone) return
    if (!this.#isBodyWanted) {
      this.#isBodyWanted = true
      this.#handler.onUpstreamReady()
    } else if (this.#isBodyBlocked) {
      this.#isBodyBlocked = false
      this.#handler.onUpstreamDrain()
    }
  }

  onConnectTimeout(): void {
    if (this.#isDone || this.#controller !== undefined) return
    this.#fail(createTimeoutFault('connection'))
  }

  // undici calls these.

  onRequestStart(controller: Dispatcher.DispatchController): void {
    clearTimeout(this.#connectTimer)
    this.#controller = controller
    const slot = this.#slot
    if (slot === undefined) return
    this.#isReused = slot.requests > 0
    slot.requests++
  }

  onResponseStarted(): void {
    this.#hasAnswerByte = true
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    if (this.#isDone) return
    const fields = toRawFields(controller.rawHeaders)
    if (status >= 200) {
      this.#endsWithConnection = isCloseDelimited(fields)
      if (hasForeignCoding(fields)) this.#fail(new UpstreamFault('transfer coding other than chunked'))
      else this.#handler.onAnswerHead(status, fields)
    } else if (++this.#informations > INFORMATIONS_MAX) {
      this.#fail(new UpstreamFault('too many informational answers'))
    } else {
      this.#handler.onInformation(status, fields)
    }
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#isDone) this.#handler.onAnswerChunk(chunk)
  }

  onResponseEnd(controller: Dispatcher.DispatchController): void {
    if (this.#isDone) return
    if (this.#endsWithConnection && this.#slot?.hasFailed === true) {
      // undici takes a reset for the end of a body that only the connection delimits.
      this.#fail(new UpstreamFault('connection reset in the middle of the answer'))
      return
    }
    this.#isDone = true
    this.#release()
    this.#handler.onAnswerEnd(toRawFields(controller.rawTrailers))
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    if (this.#isDone) return
    if (this.#isDispatching) queueMicrotask(() => this.#fail(error))
    else this.#fail(error)
  }

  #fail(error: Error): void {
    if (this.#isDone) return
    const isUnsent = this.#controller === undefined
    const kind = toFailureKind(error)
    const isStale = kind === 'unreachable' && this.#isReused && !this.#hasAnswerByte
    this.#stop()
    this.#handler.onUpstreamFailure({ kind, isUnsent, isStale, cause: error })
  }

  /** Ends the call from our side and gives its connection back, or up. */
  #stop(): void {
    this.#isDone = true
    clearTimeout(this.#connectTimer)
    const slot = this.#slot
    if (slot === undefined) {
      this.#permits.cancel(this)
      return
    }
    if (this.#controller !== undefined) {
      this.#controller.abort(new UpstreamFault('the exchange ended'))
    } else {
      // Still connecting: this client cannot be told to forget the request.
      this.#slot = undefined
      this.#pool.drop(slot)
      this.#permits.release()
    }
    this.#body?.destroy()
    this.#release()
  }

  #release(): void {
    const slot = this.#slot
    if (slot === undefined) return
    this.#slot = undefined
    this.#pool.give(slot)
    this.#permits.release()
  }
}

function onConnectTimeout(call: UndiciCall): void {
  call.onConnectTimeout()
}

function toRawFields(raw: Dispatcher.DispatchController['rawHeaders']): RawFields {
  if (!Array.isArray(raw)) return []
  const fields = new Array<string>(raw.length)
  for (let i = 0; i < raw.length; i++) {
    const item = raw[i]
    fields[i] = typeof item === 'string' ? item : (item?.toString('latin1') ?? '')
  }
  return fields
}
