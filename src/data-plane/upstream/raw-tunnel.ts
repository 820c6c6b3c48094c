import type { UpgradedSocket, UpstreamHandler } from '../../ports/transport.ts'
import { assertLines, encodeFields } from '../http1/encode.ts'
import { endSoon, toPartingMs } from './end-soon.ts'
import { drop } from './raw-pool.ts'
import type { RawSocket, RawSocketUser } from './raw-socket.ts'
import { FrameTracker, GOING_AWAY } from './web-socket-frames.ts'

/** Two sockets tied together after a 101 (RFC 9110 section 7.8), as long as either speaks. */
export class RawTunnel implements RawSocketUser {
  readonly #upstream: RawSocket
  readonly #client: UpgradedSocket
  readonly #handler: UpstreamHandler
  readonly #idleMs: number
  readonly #frames = new FrameTracker()
  /** `parting`: the rest of a frame is still due; `parted`: the upstream is not passed on any more. */
  #phase: 'open' | 'parting' | 'parted' | 'done' = 'open'
  #bytesIn = 0
  #bytesOut = 0

  constructor(upstream: RawSocket, client: UpgradedSocket, handler: UpstreamHandler, idleMs: number) {
    this.#upstream = upstream
    this.#client = client
    this.#handler = handler
    this.#idleMs = idleMs
  }

  /** Writes the 101 with these fields, then what came behind either head, and ties the sockets. */
  start(fields: readonly string[], surplus: Buffer): void {
    const { socket, head } = this.#client
    this.#upstream.user = this
    this.#upstream.arm(this.#idleMs)
    const switching = `HTTP/1.1 101 Switching Protocols\r\n${encodeFields(fields)}\r\n`
    socket.write(assertLines(switching, fields.length / 2 + 2), 'latin1')
    if (surplus.length > 0) this.onBytes(this.#upstream, surplus, surplus.length)
    if (head.length > 0) this.#toUpstream(head)
    socket.on('data', (chunk: Buffer) => this.#toUpstream(chunk))
    socket.on('drain', () => this.#upstream.resume())
    socket.on('error', () => {})
    socket.once('end', () => this.#end())
    socket.once('close', () => this.#end())
    socket.resume()
    if (socket.destroyed) this.#end()
  }

  abort(): void {
    if (this.#phase === 'done') return
    this.#phase = 'done'
    this.#client.socket.destroy()
    drop(this.#upstream)
  }

  /** Cuts the stream from the upstream at the end of a frame and puts the close frame there. */
  goAway(): void {
    if (this.#phase !== 'open') return
    this.#phase = this.#frames.isAtBoundary ? 'parted' : 'parting'
    if (this.#phase === 'parted') this.#client.socket.write(GOING_AWAY)
  }

  onConnect(): void {}

  onBytes(_socket: RawSocket, bytes: Buffer, end: number): void {
    this.#upstream.arm(this.#idleMs)
    // The bytes are lent, and the client may take them late.
    const chunk = Buffer.from(bytes.subarray(0, end))
    const { socket } = this.#client
    if (this.#phase === 'parted' || this.#phase === 'done') return
    const boundary = this.#frames.push(chunk)
    const isLast = this.#phase === 'parting' && boundary >= 0
    const passed = isLast ? chunk.subarray(0, boundary) : chunk
    this.#bytesOut += passed.length
    if (!socket.write(passed)) this.#upstream.pause()
    if (!isLast) return
    this.#phase = 'parted'
    socket.write(GOING_AWAY)
  }

  onDrain(): void {
    this.#client.socket.resume()
  }

  onEnd(): void {
    this.#end()
  }

  onClose(): void {
    this.#end()
  }

  /** Nobody has said anything for too long. */
  onDeadline(): void {
    this.goAway()
    endSoon(this.#client.socket, toPartingMs(this.#idleMs))
  }

  #toUpstream(chunk: Buffer): void {
    if (this.#phase === 'done') return
    this.#bytesIn += chunk.length
    this.#upstream.arm(this.#idleMs)
    if (!this.#upstream.write(chunk)) this.#client.socket.pause()
  }

  #end(): void {
    if (this.#phase === 'done') return
    this.#phase = 'done'
    // What one side said last may still be on its way to the other: end, do not cut.
    const partingMs = toPartingMs(this.#idleMs)
    endSoon(this.#client.socket, partingMs)
    this.#upstream.endSoon(partingMs)
    this.#handler.onTunnelEnd(this.#bytesIn, this.#bytesOut)
  }
}
