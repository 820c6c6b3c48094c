import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/** As long as a slow reader of an answer has by default. */
const PARTING_MS_MAX = 60_000

/** How long what one side of a tunnel has said last may take to leave; `idleMs` is 0 where silence has no limit. */
export function toPartingMs(idleMs: number): number {
  return idleMs > 0 ? Math.min(idleMs, PARTING_MS_MAX) : PARTING_MS_MAX
}

/** Closes once all that was written has left, which a peer that does not read must not put off for ever. */
export function endSoon(socket: Duplex, partingMs: number): void {
  if (!(socket instanceof Socket)) {
    socket.destroy()
    return
  }
  socket.destroySoon()
  if (socket.destroyed) return
  const deadline = setTimeout(() => socket.destroy(), partingMs)
  socket.once('close', () => clearTimeout(deadline))
}
