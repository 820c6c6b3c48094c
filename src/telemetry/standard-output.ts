import fs from 'node:fs'
import { isMainThread } from 'node:worker_threads'

/** Takes whole lines; never waits for whoever reads them. */
export interface LineOutput {
  write(line: string): void
  /** Tries once to write what is still in memory. */
  flush(): void
  /** For the end of the process: gives a slow reader a quarter of a second to take the rest. */
  finish(): void
}

/** A write of this size to a pipe is whole or not at all, whoever else writes to it. */
export const PIPE_CHUNK_BYTES = 4096
/** Lines that wait for a slow reader; later ones are dropped, so that no reader stops the gateway. */
const PENDING_BYTES_MAX = 1024 * 1024
const RETRY_AFTER_MS = 50
const FINISH_TRIES = 50
const FINISH_PAUSE_MS = 5

/**
 * A descriptor for the same output that does not block: a reader that stands still then costs
 * lines, and neither the event loop nor the pool that all threads share. A pipe or terminal is
 * opened once more; of a regular file the position must be shared, so it stays `fd` itself. Where
 * opening is not possible (a socket, or a pipe of another user), `fd` is made non-blocking, which
 * only the main thread can do: let it open its log before it starts others.
 */
export function openWithoutBlocking(fd: number): number {
  const kind = fs.fstatSync(fd)
  if (kind.isFile()) return fd
  try {
    return fs.openSync(`/dev/fd/${fd}`, fs.constants.O_WRONLY | fs.constants.O_NONBLOCK)
  } catch {
    // Node has no call for it, but does it when it makes a stream of a pipe or socket.
    if (fd === 1 && isMainThread) void process.stdout
    return fd
  }
}

/** For few lines: each is written before the call returns, as long as the reader keeps up. */
export function openLineOutput(fd: number): LineOutput {
  const target = openWithoutBlocking(fd)
  const pending: Buffer[] = []
  let pendingBytes = 0
  let timer: NodeJS.Timeout | undefined
  return { write, flush, finish }

  function write(line: string): void {
    const bytes = Buffer.from(line)
    if (pendingBytes + bytes.length > PENDING_BYTES_MAX) return
    pending.push(bytes)
    pendingBytes += bytes.length
    if (pending.length === 1) flush()
  }

  function finish(): void {
    flush()
    const never = new Int32Array(new SharedArrayBuffer(4))
    for (let n = 0; n < FINISH_TRIES && pending.length > 0; n++) {
      Atomics.wait(never, 0, 0, FINISH_PAUSE_MS)
      flush()
    }
  }

  function flush(): void {
    clearTimeout(timer)
    while (pending[0] !== undefined) {
      const rest = writeSome(target, pending[0])
      if (rest === undefined) {
        timer = setTimeout(flush, RETRY_AFTER_MS).unref()
        return
      }
      pendingBytes -= pending[0].length - rest.length
      if (rest.length === 0) pending.shift()
      else pending[0] = rest
    }
  }
}

/** What is left to write; nothing too when the reader is gone; `undefined` when it is slow. */
function writeSome(fd: number, bytes: Buffer): Buffer | undefined {
  try {
    return bytes.subarray(fs.writeSync(fd, bytes))
  } catch (error) {
    const isSlow = error instanceof Error && 'code' in error && error.code === 'EAGAIN'
    return isSlow ? undefined : bytes.subarray(bytes.length)
  }
}
