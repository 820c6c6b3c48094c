import { afterEach } from 'vitest'

interface Closable {
  close(): Promise<void>
}

/** Closes, after each test, what the test opened with it: the last first. */
export function useCleanup(): {
  open<T extends Closable>(opening: Promise<T>): Promise<T>
  later(undo: () => void): void
} {
  const undos: (() => unknown)[] = []
  afterEach(async () => {
    for (const undo of undos.splice(0).reverse()) await undo()
  })
  return {
    open: async (opening) => {
      const opened = await opening
      undos.push(() => opened.close())
      return opened
    },
    later: (undo) => undos.push(undo),
  }
}
