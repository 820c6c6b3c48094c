import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** Stands between a client and a server, and does what networks do. */
export interface TcpProxy extends AsyncDisposable {
  readonly port: number
  /** From now on, cuts every connection after so many bytes of its next answer. */
  cutAnswersAfter(bytes: number | undefined): void
  /** From now on nothing passes, in either direction, until `release`; nobody is told. */
  hold(): void
  release(): void
  /** Resets all connections that are open. */
  cutAll(): void
  close(): Promise<void>
}

export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const sockets = new Set<Socket>()
  let cutAfter: number | undefined
  let isHeld = false
  const server = createServer((client) => {
    const upstream = connect(targetPort, '127.0.0.1')
    const both = [client, upstream]
    const endBoth = () => {
      for (const socket of both) socket.destroy()
    }
    for (const socket of both) {
      sockets.add(socket)
      socket.on('error', endBoth)
      socket.on('close', () => {
        sockets.delete(socket)
        endBoth()
      })
    }
    if (isHeld) for (const socket of both) socket.pause()
    client.on('data', (chunk: Buffer) => upstream.write(chunk))
    upstream.on('data', (chunk: Buffer) => {
      if (cutAfter === undefined) client.write(chunk)
      else client.write(chunk.subarray(0, cutAfter), endBoth)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const cutAll = () => {
    for (const socket of sockets) socket.resetAndDestroy()
  }
  const close = async () => {
    cutAll()
    await new Promise((resolve) => server.close(resolve))
  }
  return {
    port: (server.address() as AddressInfo).port,
    cutAnswersAfter(bytes) {
      cutAfter = bytes
    },
    hold() {
      isHeld = true
      for (const socket of sockets) socket.pause()
    },
    release() {
      isHeld = false
      for (const socket of sockets) socket.resume()
    },
    cutAll,
    close,
    [Symbol.asyncDispose]: close,
  }
}
