import type { SocketWriter } from './socket-writer.ts'

/** One read of a socket, a head before it, and what frames a chunk. */
const ROOM_BYTES = 80 * 1024

/**
 * Where large pieces are put together before they are written. The room is used again as soon as
 * the socket has taken all of it, which it nearly always does at once: fresh memory for each piece
 * costs more than the copy. One for each thread is enough.
 */
export class WriteRoom {
  #room: Buffer | undefined = undefined
  /** The part of it that was taken last; the next one is often as long. */
  #taken: Buffer | undefined = undefined

  /** What it holds is left over from before, so all of it must be filled, and written at once. */
  take(length: number): Buffer {
    if (length > ROOM_BYTES) return Buffer.allocUnsafeSlow(length)
    if (this.#taken?.length === length) return this.#taken
    this.#room ??= Buffer.allocUnsafeSlow(ROOM_BYTES)
    this.#taken = this.#room.subarray(0, length)
    return this.#taken
  }

  /** Writes what was taken; whether more is welcome. */
  write(writer: SocketWriter, bytes: Uint8Array): boolean {
    const isWelcome = writer.write(bytes)
    // Somebody still holds on to it, and gives the memory back when it is done.
    if (writer.isPending) {
      this.#room = undefined
      this.#taken = undefined
    }
    return isWelcome
  }
}
