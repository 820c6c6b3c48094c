import { Socket, type SocketConstructorOpts } from 'node:net'

/** Takes `length` bytes of the buffer, lent until it returns; `false` stops reading until `resume`. */
export type OnRead = (length: number) => boolean

interface WithHandle {
  /** Node's own; not part of its documented interface. */
  _handle?: { readonly useUserBuffer?: unknown } | null
}

/**
 * A socket that reads into `buffer`, in place of one that a server accepted with `pauseOnConnect`:
 * Node offers that (`onread`) to sockets that connect, and gives those of a server 64 KiB of fresh
 * memory for each read. `undefined` where Node's insides are not as expected; the accepted one is then
 * as good as before.
 */
export function lendReads(accepted: Socket, buffer: Buffer, onRead: OnRead): Socket | undefined {
  const shell = accepted as WithHandle
  const handle = shell._handle
  if (typeof handle?.useUserBuffer !== 'function') return undefined
  shell._handle = null
  accepted.destroy()
  const options = { handle, allowHalfOpen: true, onread: { buffer, callback: onRead } }
  return new Socket(options as object as SocketConstructorOpts)
}
