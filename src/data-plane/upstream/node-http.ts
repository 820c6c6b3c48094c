import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
} from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { Socket } from 'node:net'
import type { RawFields, UpstreamHandler, UpstreamRequest, UpstreamStream } from '../../ports/transport.ts'
import { listFields } from '../message-fields.ts'
import {
  ANSWER_HEAD_BYTES_MAX,
  createTimeoutFault,
  hasForeignCoding,
  INFORMATIONS_MAX,
  toFailureKind,
  UpstreamFault,
} from './failures.ts'
import { type Origin, toTlsOptions } from './origin.ts'
import type { PermitHolder, Permits } from './permits.ts'

/*
 * The way for chunked requests: Node's own client, which sends the head at once and trailers at
 * the end. Its defaults for methods without a body are never used: the framing is always explicit.
 */

const KEEP_ALIVE_MS = 4000

export type ChunkedAgent = HttpAgent

export function createChunkedAgent(origin: Origin, connectionsMax: number): ChunkedAgent {
  const options = {
    keepAlive: true,
    maxSockets: connectionsMax,
    maxFreeSockets: connectionsMax,
    scheduling: 'lifo',
    timeout: KEEP_ALIVE_MS,
  } as const
  return origin.isTls ? new HttpsAgent(options) : new HttpAgent(options)
}

/** What a request to this origin needs beside its own head. */
export function toConnectOptions(origin: Origin) {
  return {
    host: origin.address,
    port: origin.port,
    ...(origin.isTls ? { servername: origin.servername } : {}),
    ...toTlsOptions(origin),
  }
}

/** Calls back once the request's connection stands, TLS included. */
export function onConnected(request: ClientRequest, origin: Origin, callback: () => void): void {
  request.once('socket', (socket: Socket) => {
    if (socket.connecting) socket.once(origin.isTls ? 'secureConnect' : 'connect', callback)
    else callback()
  })
}

type Phase = 'connection' | 'answer' | 'data'

export class ChunkedCall implements UpstreamStream, PermitHolder {
  readonly waitMs: number
  readonly #origin: Origin
  readonly #agent: ChunkedAgent
  readonly #permits: Permits
  readonly #request: UpstreamRequest
  readonly #handler: UpstreamHandler
  #client: ClientRequest | undefined
  #answer: IncomingMessage | undefined
  #timer: NodeJS.Timeout | undefined
  #phase: Phase = 'connection'
  #hasPermit = false
  #isDone = false
  #informations = 0

  constructor(
    origin: Origin,
    agent: ChunkedAgent,
    permits: Permits,
    request: UpstreamRequest,
    handler: UpstreamHandler,
  ) {
    this.waitMs = request.connectMs
    this.#origin = origin
    this.#agent = agent
    this.#permits = permits
    this.#request = request
    this.#handler = handler
  }

  writeBody(chunk: Uint8Array): boolean {
    if (this.#isDone || this.#client === undefined) return true
    this.#timer?.refresh()
    return this.#client.write(Buffer.from(chunk))
  }

  endBody(trailers: RawFields): void {
    if (this.#isDone || this.#client === undefined) return
    try {
      if (trailers.length > 0) this.#client.addTrailers(toPairs(trailers))
      this.#client.end()
    } catch (error) {
      this.#fail(error)
    }
    this.#timer?.refresh()
  }

  pause(): void {
    this.#answer?.pause()
  }

  resume(): void {
    this.#timer?.refresh()
    this.#answer?.resume()
  }

  abort(): void {
    if (!this.#isDone) this.#stop()
  }

  onPermit(): void {
    const { method, target, connectMs } = this.#request
    const send = this.#origin.isTls ? httpsRequest : httpRequest
    this.#hasPermit = true
    this.#enter('connection', connectMs)
    try {
      const client = send({
        ...toConnectOptions(this.#origin),
        agent: this.#agent,
        method,
        path: target,
        headers: [...listFields(this.#request), 'Transfer-Encoding', 'chunked'],
        maxHeaderSize: ANSWER_HEAD_BYTES_MAX,
      })
      this.#client = client
      this.#listen(client)
      client.flushHeaders()
    } catch (error) {
      queueMicrotask(() => this.#fail(error))
    }
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

  #listen(client: ClientRequest): void {
    client.maxHeadersCount = 0
    client.on('error', (error) => {
      // What comes behind a complete answer is no part of it; the connection is gone already.
      if (this.#answer?.complete !== true) this.#fail(error)
    })
    client.on('upgrade', (_answer, socket) => {
      socket.destroy()
      this.#fail(new UpstreamFault('unwanted upgrade'))
    })
    client.on('drain', () => {
      if (!this.#isDone) this.#handler.onUpstreamDrain()
    })
    client.on('information', (information) => {
      if (this.#isDone || information.statusCode === 100) return
      if (++this.#informations > INFORMATIONS_MAX || information.statusCode === 101) {
        this.#fail(new UpstreamFault('unwanted informational answer'))
        return
      }
      this.#handler.onInformation(information.statusCode, information.rawHeaders)
    })
    client.on('response', (answer) => this.#read(answer))
    onConnected(client, this.#origin, () => {
      if (this.#isDone) return
      this.#enter('answer', this.#request.responseMs)
      this.#handler.onUpstreamReady()
    })
  }

  #read(answer: IncomingMessage): void {
    answer.on('error', (error) => this.#fail(error))
    if (this.#isDone) return
    this.#answer = answer
    if (hasForeignCoding(answer.rawHeaders)) {
      this.#fail(new UpstreamFault('transfer coding other than chunked'))
      return
    }
    this.#enter('data', this.#request.idleMs)
    this.#handler.onAnswerHead(answer.statusCode ?? 0, answer.rawHeaders)
    answer.on('data', (chunk: Buffer) => {
      if (this.#isDone) return
      this.#timer?.refresh()
      this.#handler.onAnswerChunk(chunk)
    })
    answer.on('end', () => this.#end(answer))
    answer.on('close', () => this.#fail(new UpstreamFault('answer broken off')))
  }

  #end(answer: IncomingMessage): void {
    if (this.#isDone) return
    if (!answer.complete) {
      this.#fail(new UpstreamFault('answer broken off'))
      return
    }
    this.#isDone = true
    clearTimeout(this.#timer)
    // Answered before the request was complete: the rest of it will never be sent.
    if (this.#client?.writableFinished !== true) this.#client?.destroy()
    this.#permits.release()
    this.#handler.onAnswerEnd(answer.rawTrailers)
  }

  #enter(phase: Phase, limitMs: number): void {
    clearTimeout(this.#timer)
    this.#phase = phase
    this.#timer = limitMs > 0 ? setTimeout(() => this.#onTimeout(), limitMs) : undefined
  }

  #onTimeout(): void {
    const client = this.#client
    const isOurTurn =
      this.#phase === 'answer'
        ? client?.writableEnded === false && !client.writableNeedDrain
        : this.#phase === 'data' && this.#answer?.isPaused() === true
    // The upstream is not to blame while it is the client that keeps everybody waiting.
    if (isOurTurn) this.#timer?.refresh()
    else this.#fail(createTimeoutFault(this.#phase))
  }

  #fail(cause: unknown): void {
    if (this.#isDone) return
    const isUnsent = this.#phase === 'connection'
    this.#stop()
    this.#handler.onUpstreamFailure({ kind: toFailureKind(cause), isUnsent, isStale: false, cause })
  }

  #stop(): void {
    this.#isDone = true
    clearTimeout(this.#timer)
    this.#client?.destroy()
    if (this.#hasPermit) this.#permits.release()
    else this.#permits.cancel(this)
  }
}

function toPairs(fields: RawFields): [string, string][] {
  const pairs: [string, string][] = []
  for (let i = 0; i < fields.length; i += 2) pairs.push([fields[i] ?? '', fields[i + 1] ?? ''])
  return pairs
}
