import type { Server } from 'node:net'
import type { Duplex } from 'node:stream'
import type { FrontOptions } from './front-options.ts'

/** What the listeners of all fronts have in common. */

export function toAddress(server: Server | undefined): { readonly host: string; readonly port: number } {
  const address = server?.address() ?? null
  if (address === null || typeof address === 'string') throw new Error('the front is not listening')
  return { host: address.address, port: address.port }
}

/** Rejects where the address cannot be bound. */
export function listenOn(server: Server, { host, port, reusePort }: FrontOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host, port, reusePort, backlog: 4096 }, () => {
      server.removeAllListeners('error')
      // Such as a lack of descriptors: those in use go on, and new ones wait.
      server.on('error', () => {})
      resolve()
    })
  })
}

/** Resolves when no socket is left, which leave as they close; those that are there after `graceMs` are cut off. */
export async function untilEmpty(
  closed: Promise<unknown>,
  sockets: Iterable<Duplex>,
  graceMs: number,
): Promise<void> {
  const deadline = setTimeout(() => {
    for (const socket of sockets) socket.destroy()
  }, graceMs)
  await closed
  // The server is done before the last sockets are, or have said so to everybody.
  for (let [socket] = sockets; socket !== undefined; [socket] = sockets) {
    const one = socket
    await new Promise((resolve) => one.once('close', resolve))
  }
  clearTimeout(deadline)
}
