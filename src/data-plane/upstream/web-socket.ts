import type { ClientRequest, IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { createProxyServer } from 'http-proxy-3'
import type {
  RawFields,
  TunnelStream,
  UpgradedSocket,
  UpstreamHandler,
  UpstreamRequest,
} from '../../ports/transport.ts'
import { listFields } from '../message-fields.ts'
import { equalsIgnoreCase, findField } from '../raw-headers.ts'
import { endSoon, toPartingMs } from './end-soon.ts'
import {
  announcesBody,
  createTimeoutFault,
  hasForeignCoding,
  INFORMATIONS_MAX,
  toFailureKind,
  UpstreamFault,
} from './failures.ts'
import { onConnected } from './node-http.ts'
import { type Origin, toTlsOptions } from './origin.ts'
import { FrameTracker, GOING_AWAY } from './web-socket-frames.ts'

/*
 * WebSockets go through http-proxy-3's `ws()`, which makes the upgrade request and ties the two
 * sockets together. Everything around that is done here, because it forwards hop-by-hop fields,
 * rewrites the path, leaves the client without an answer when the upstream is down, and leaks the
 * upstream's socket when the upgrade is refused.
 */

export function openTunnel(
  origin: Origin,
  request: UpstreamRequest,
  client: UpgradedSocket,
  handler: UpstreamHandler,
): TunnelStream {
  const tunnel = new Tunnel(origin, request, client, handler)
  tunnel.open()
  return tunnel
}

type UpgradeListener = (answer: IncomingMessage, socket: Duplex, head: Buffer) => void

class Tunnel implements TunnelStream {
  readonly #origin: Origin
  readonly #request: UpstreamRequest
  readonly #client: UpgradedSocket
  readonly #handler: UpstreamHandler
  readonly #frames = new FrameTracker()
  #upgrade: ClientRequest | undefined
  #answer: IncomingMessage | undefined
  #upstream: Duplex | undefined
  #timer: NodeJS.Timeout | undefined
  #phase: 'connection' | 'answer' | 'data' | 'tunnel' | 'done' = 'connection'
  #isGoingAway = false
  #informations = 0

  constructor(origin: Origin, request: UpstreamRequest, client: UpgradedSocket, handler: UpstreamHandler) {
    this.#origin = origin
    this.#request = request
    this.#client = client
    this.#handler = handler
  }

  open(): void {
    this.#enter('connection', this.#request.connectMs)
    try {
      const upgrade = this.#startUpgrade()
      this.#upgrade = upgrade
      this.#listen(upgrade)
    } catch (error) {
      queueMicrotask(() => this.#fail(error))
    }
  }

  /** A request for an upgrade has no body. */
  writeBody(): boolean {
    return true
  }

  endBody(): void {}

  pause(): void {
    this.#answer?.pause()
  }

  resume(): void {
    this.#timer?.refresh()
    this.#answer?.resume()
  }

  abort(): void {
    this.#stop()
  }

  /** Cuts the stream from the upstream at the end of a frame and puts the close frame there. */
  goAway(): void {
    const upstream = this.#upstream
    if (this.#phase !== 'tunnel' || upstream === undefined || this.#isGoingAway) return
    this.#isGoingAway = true
    const client = this.#client.socket
    upstream.unpipe(client)
    if (this.#frames.isAtBoundary) {
      client.write(GOING_AWAY)
      upstream.resume()
      return
    }
    let isSaid = false
    upstream.on('data', (chunk: Buffer) => {
      if (isSaid) return
      const boundary = this.#frames.push(chunk)
      client.write(boundary < 0 ? chunk : chunk.subarray(0, boundary))
      isSaid = boundary >= 0
      if (isSaid) client.write(GOING_AWAY)
    })
    upstream.resume()
  }

  /** Lets http-proxy-3 make the request, with our head, and takes it over before it is sent. */
  #startUpgrade(): ClientRequest {
    const { method, target } = this.#request
    const proxy = createProxyServer({ xfwd: false, ws: true, prependPath: false })
    proxy.on('error', () => {})
    let upgrade: ClientRequest | undefined
    proxy.on('proxyReqWs', (request) => {
      upgrade = request
      // The library has rewritten it: the path goes up byte for byte.
      request.path = target
    })
    const { socket, head } = this.#client
    const description = {
      method,
      url: '/',
      headers: toHeaderObject(listFields(this.#request)),
      httpVersion: '1.1',
      httpVersionMajor: 1,
    }
    const { servername, address, port, isTls } = this.#origin
    proxy.ws(description as unknown as IncomingMessage, socket as Socket, head, {
      target: {
        ...{ protocol: isTls ? 'https:' : 'http:', host: address, hostname: address, port },
        ...toTlsOptions(this.#origin),
      },
      ssl: isTls ? { servername } : {},
    })
    if (upgrade === undefined) throw new UpstreamFault('no upgrade request was made')
    return upgrade
  }

  /** Replaces the library's listeners; what it does with a 101 is kept for `#switch`. */
  #listen(upgrade: ClientRequest): void {
    const splice = upgrade.listeners('upgrade') as UpgradeListener[]
    for (const event of ['upgrade', 'response', 'error']) upgrade.removeAllListeners(event)
    upgrade.on('error', (error) => {
      // What comes behind a complete answer is no part of it; the connection is gone already.
      if (this.#phase === 'tunnel' || this.#answer?.complete !== true) this.#fail(error)
    })
    upgrade.on('information', ({ statusCode, rawHeaders }) => this.#inform(statusCode, rawHeaders))
    upgrade.on('response', (answer) => this.#read(answer))
    upgrade.on('upgrade', (answer, socket, head) => {
      if (!this.#switch(answer, socket)) return
      for (const listener of splice) listener(answer, socket, head)
      this.#follow(socket)
    })
    onConnected(upgrade, this.#origin, () => {
      if (this.#phase === 'connection') this.#enter('answer', this.#request.responseMs)
    })
  }

  #inform(status: number, fields: RawFields): void {
    if (this.#phase === 'done' || status === 100) return
    if (++this.#informations > INFORMATIONS_MAX)
      this.#fail(new UpstreamFault('too many informational answers'))
    else this.#handler.onInformation(status, fields)
  }

  /** The upstream said no: an ordinary answer. */
  #read(answer: IncomingMessage): void {
    answer.on('error', (error) => this.#fail(error))
    if (this.#phase === 'done') return
    this.#answer = answer
    if (hasForeignCoding(answer.rawHeaders)) {
      this.#fail(new UpstreamFault('transfer coding other than chunked'))
      return
    }
    if (answer.statusCode === 204 && announcesBody(answer.rawHeaders)) {
      this.#fail(new UpstreamFault('a body where there can be none'))
      return
    }
    this.#enter('data', this.#request.idleMs)
    this.#handler.onAnswerHead(answer.statusCode ?? 0, answer.rawHeaders)
    answer.on('data', (chunk: Buffer) => {
      if (this.#phase !== 'data') return
      this.#timer?.refresh()
      this.#handler.onAnswerChunk(chunk)
    })
    answer.on('end', () => {
      if (this.#phase !== 'data' || !answer.complete) return
      this.#stop()
      this.#handler.onAnswerEnd(answer.rawTrailers)
    })
    answer.on('close', () => this.#fail(new UpstreamFault('answer broken off')))
  }

  /** Whether the 101 is good; then the library may write it and tie the sockets together. */
  #switch(answer: IncomingMessage, upstream: Duplex): boolean {
    upstream.on('error', () => {})
    const protocol = findField(answer.rawHeaders, 'upgrade') ?? ''
    if (this.#phase === 'done' || !equalsIgnoreCase(protocol, 'websocket')) {
      upstream.destroy()
      this.#fail(new UpstreamFault('unwanted protocol'))
      return false
    }
    clearTimeout(this.#timer)
    this.#phase = 'tunnel'
    this.#upstream = upstream
    answer.headers = toHeaderObject(this.#handler.onSwitch(answer.rawHeaders))
    return true
  }

  /** Only once the sockets are tied: an earlier listener would set the data flowing into nothing. */
  #follow(upstream: Duplex): void {
    upstream.on('data', (chunk: Buffer) => {
      if (!this.#isGoingAway) this.#frames.push(chunk)
    })
    this.#guard(upstream)
  }

  /** Ends the tunnel when either side ends, and when both are silent for too long. */
  #guard(upstream: Duplex): void {
    const client = this.#client.socket
    const end = () => this.#endTunnel()
    client.once('close', end)
    upstream.once('close', end)
    if (!(client instanceof Socket) || this.#request.idleMs === 0) return
    client.setTimeout(this.#request.idleMs)
    client.once('timeout', () => {
      this.goAway()
      endSoon(client, toPartingMs(this.#request.idleMs))
    })
  }

  #endTunnel(): void {
    if (this.#phase !== 'tunnel') return
    this.#phase = 'done'
    // What one side said last may still be on its way to the other: end, do not cut.
    const partingMs = toPartingMs(this.#request.idleMs)
    endSoon(this.#client.socket, partingMs)
    if (this.#upstream !== undefined) endSoon(this.#upstream, partingMs)
    const counts = this.#upstream instanceof Socket ? this.#upstream : undefined
    this.#handler.onTunnelEnd(counts?.bytesWritten ?? 0, counts?.bytesRead ?? 0)
  }

  #enter(phase: 'connection' | 'answer' | 'data', limitMs: number): void {
    clearTimeout(this.#timer)
    this.#phase = phase
    this.#timer = limitMs > 0 ? setTimeout(() => this.#onTimeout(phase), limitMs) : undefined
  }

  #onTimeout(phase: string): void {
    if (this.#answer?.isPaused() === true) this.#timer?.refresh()
    else this.#fail(createTimeoutFault(phase))
  }

  #fail(cause: unknown): void {
    if (this.#phase === 'done') return
    if (this.#phase === 'tunnel') {
      this.#endTunnel()
      return
    }
    const isUnsent = this.#phase === 'connection'
    this.#stop()
    this.#handler.onUpstreamFailure({ kind: toFailureKind(cause), isUnsent, isStale: false, cause })
  }

  #stop(): void {
    if (this.#phase === 'tunnel') this.#client.socket.destroy()
    this.#phase = 'done'
    clearTimeout(this.#timer)
    this.#upgrade?.destroy()
    this.#upstream?.destroy()
  }
}

/** With one array for each field that occurs more than once. */
function toHeaderObject(fields: RawFields): NodeJS.Dict<string | string[]> {
  const values = new Map<string, string | string[]>()
  for (let i = 0; i < fields.length; i += 2) {
    const name = (fields[i] ?? '').toLowerCase()
    const value = fields[i + 1] ?? ''
    const before = values.get(name)
    if (before === undefined) values.set(name, value)
    else values.set(name, Array.isArray(before) ? [...before, value] : [before, value])
  }
  return Object.fromEntries(values)
}
