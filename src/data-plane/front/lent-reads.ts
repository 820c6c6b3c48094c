import { type Server, Socket, type SocketConstructorOpts } from 'node:net'

/** `length` bytes of the buffer are lent until it returns; `false` stops reading until `resume`. */
export type OnRead = (socket: Socket, length: number) => boolean

/** Node's own, and not part of its documented interface. */
interface ServerHandle {
  onconnection?: (this: ServerHandle, error: unknown, client: object) => void
  readonly useUserBuffer?: unknown
}

/**
 * Has the sockets that a listening server accepts from now on read into `buffer`: Node offers that
 * (`onread`) to sockets that connect, and gives those of a server 64 KiB of fresh memory for each read.
 * They come with `connection` as ever, half open and without delay, and the server does not wait for them
 * when it closes. `false` where Node's insides are not as expected; all is then as before.
 */
export function lendReads(server: Server, buffer: Buffer, onRead: OnRead): boolean {
  const handle = (server as { _handle?: ServerHandle | null })._handle
  const accept = handle?.onconnection
  if (handle == null || typeof accept !== 'function' || typeof handle.useUserBuffer !== 'function')
    return false
  handle.onconnection = function (error, client) {
    // A number, where there is no connection.
    if (error) accept.call(this, error, client)
    else server.emit('connection', openSocket(client, buffer, onRead))
  }
  return true
}

function openSocket(handle: object, buffer: Buffer, onRead: OnRead): Socket {
  const callback = (length: number): boolean => onRead(socket, length)
  const options = { handle, allowHalfOpen: true, onread: { buffer, callback } }
  const socket = new Socket(options as object as SocketConstructorOpts)
  return socket.setNoDelay(true)
}
