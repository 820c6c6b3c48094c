import type { Server } from 'node:net'

/** With ever more connections coming, the last ones have to be reset after all. */
const TURNS_MAX = 200

/**
 * Resolves right after a turn of the event loop in which no connection came, so that the kernel's
 * queues have just been found empty: listeners that are closed then reset hardly any.
 */
export async function untilNobodyComes(servers: readonly Server[]): Promise<void> {
  let came = 0
  const count = () => {
    came++
  }
  for (const server of servers) server.on('connection', count)
  // The first turn may have begun before.
  for (let turn = 0, before = -1; turn < TURNS_MAX && (turn < 2 || came !== before); turn++) {
    before = came
    await new Promise((resolve) => setImmediate(resolve))
  }
  for (const server of servers) server.off('connection', count)
}
