import type { Socket } from 'node:net'
import { getSystemErrorName } from 'node:util'

/** What Node's sockets make for each write; `oncomplete` is called where the write had to wait. */
interface WriteRequest {
  oncomplete?: (status: number) => void
  /** Kept alive until it is written. */
  bytes?: Uint8Array
}

/** Node's own, and not part of its documented interface. */
interface StreamWrap {
  readonly WriteWrap: new () => WriteRequest
  readonly streamBaseState: Int32Array
  readonly kLastWriteWasAsync: number
}

/** Likewise. Both give 0, or the number of an error, with which nothing was written. */
interface Handle {
  writeLatin1String(request: WriteRequest, text: string): number
  writeBuffer(request: WriteRequest, bytes: Uint8Array): number
}

const streamWrap = findStreamWrap()
/** Good for one write after another, as long as none has to wait. */
let spare: WriteRequest | undefined

/**
 * Writes to a socket as Node's streams do, but past them: what the system takes at once, which is nearly
 * everything, needs no request of its own, no callback and no turn of a queue. Over TLS, where something
 * waits in the stream, or where Node's insides are not as expected, it is the stream that writes.
 */
export class SocketWriter {
  readonly #socket: Socket & { readonly _handle?: Handle | null }
  /** Left out: the stream writes. */
  readonly #wrap: StreamWrap | undefined
  readonly #onDrain: () => void
  /** Writes that the system has not taken yet. */
  #pending = 0

  /** `onDrain`: nothing waits any more, after a write that said that more was not welcome. */
  constructor(socket: Socket, onDrain: () => void) {
    this.#socket = socket as Socket & { readonly _handle?: Handle | null }
    this.#wrap = 'encrypted' in socket ? undefined : streamWrap
    this.#onDrain = onDrain
    socket.on('drain', onDrain)
  }

  /** Whether something that was written has not been taken yet: its memory is still in use. */
  get isPending(): boolean {
    return this.#pending > 0 || this.#socket.writableLength > 0
  }

  /** Text is a byte for each character. Whether more is welcome. */
  write(data: string | Uint8Array): boolean {
    const wrap = this.#wrap
    const { _handle: handle, writableLength, writableEnded } = this.#socket
    if (wrap === undefined || handle === undefined || handle === null || writableLength > 0 || writableEnded)
      return this.#writeToStream(data)
    const isText = typeof data === 'string'
    const request = spare ?? new wrap.WriteWrap()
    const error = isText ? handle.writeLatin1String(request, data) : handle.writeBuffer(request, data)
    const mustWait = error === 0 && wrap.streamBaseState[wrap.kLastWriteWasAsync] !== 0
    spare = error === 0 && !mustWait ? request : undefined
    // It meets the same error there, and makes of it what Node makes of errors.
    if (error !== 0) return this.#writeToStream(data)
    if (!mustWait) return true
    this.#pending++
    if (!isText) request.bytes = data
    request.oncomplete = (status) => this.#onComplete(status)
    return false
  }

  /** From now on somebody else writes to the socket. */
  detach(): void {
    this.#socket.removeListener('drain', this.#onDrain)
  }

  #writeToStream(data: string | Uint8Array): boolean {
    return typeof data === 'string' ? this.#socket.write(data, 'latin1') : this.#socket.write(data)
  }

  #onComplete(status: number): void {
    this.#pending--
    if (this.#socket.destroyed) return
    if (status < 0) this.#socket.destroy(toError(status))
    else if (this.#pending === 0) this.#onDrain()
  }
}

function toError(status: number): Error {
  const code = getSystemErrorName(status)
  return Object.assign(new Error(`write ${code}`), { code, errno: status, syscall: 'write' })
}

function findStreamWrap(): StreamWrap | undefined {
  const { binding } = process as { binding?: (name: string) => Partial<StreamWrap> }
  try {
    const found = binding?.('stream_wrap')
    const isKnown =
      typeof found?.WriteWrap === 'function' &&
      found.streamBaseState instanceof Int32Array &&
      typeof found.kLastWriteWasAsync === 'number'
    return isKnown ? (found as StreamWrap) : undefined
  } catch {
    return undefined
  }
}
