import { RpcError } from '../../domain/errors.ts'
import type { FromStorage, JobName, JobResult, ToStorage } from './messages.ts'
import type { Writer } from './writer.ts'

/** Jobs that may wait for their commit; more are refused rather than kept in memory. */
const WAITING_MAX = 20_000
const JOB_TIMEOUT_MS = 30_000

interface Waiting {
  /** Does what must follow the commit, then answers the caller. */
  readonly settle: (result: unknown) => void
  readonly reject: (error: unknown) => void
  readonly deadline: number
  /** The caller has been told that the outcome is unknown; what must follow the commit still does. */
  isLate: boolean
}

/** The control thread's end of the storage thread. */
export class StorageClient {
  readonly #post: (message: ToStorage) => void
  readonly #waiting = new Map<number, Waiting>()
  readonly #timer: NodeJS.Timeout
  readonly #timeoutMs: number
  #lastId = 0
  #isOpen = true

  constructor(post: (message: ToStorage) => void, timeoutMs = JOB_TIMEOUT_MS) {
    this.#post = post
    this.#timeoutMs = timeoutMs
    this.#timer = setInterval(() => this.#expire(), Math.min(1_000, timeoutMs))
    this.#timer.unref()
  }

  /**
   * Resolves once the job's commit is on disk, to what `follow` makes of its result. `follow` runs
   * for every job that was committed, also when its caller has given up. Rejects with the
   * `RpcError` that the job threw, with `store_full`, or with `store_unavailable`: then nothing was
   * changed, unless the thread did not answer within 30 s and the outcome is unknown.
   */
  run<N extends JobName, R = JobResult<N>>(
    name: N,
    params: Parameters<Writer[N]>,
    follow?: (result: JobResult<N>) => R,
  ): Promise<R> {
    if (!this.#isOpen || this.#waiting.size >= WAITING_MAX) {
      return Promise.reject(
        new RpcError('store_unavailable', { internal: 'the storage thread is not taking jobs' }),
      )
    }
    const id = ++this.#lastId
    return new Promise<R>((resolve, reject) => {
      const settle = (result: unknown) => {
        try {
          resolve(follow === undefined ? (result as R) : follow(result as JobResult<N>))
        } catch (error) {
          reject(error)
        }
      }
      this.#waiting.set(id, { settle, reject, deadline: performance.now() + this.#timeoutMs, isLate: false })
      this.#post({ kind: 'job', id, name, params })
    })
  }

  settle(message: Extract<FromStorage, { kind: 'done' | 'failed' }>): void {
    const waiting = this.#waiting.get(message.id)
    this.#waiting.delete(message.id)
    if (message.kind === 'done') waiting?.settle(message.result)
    else waiting?.reject(new RpcError(message.code, { internal: message.internal }))
  }

  /** The thread is gone: what waits is refused, and its outcome is not known. */
  close(): void {
    this.#isOpen = false
    clearInterval(this.#timer)
    for (const waiting of this.#waiting.values()) waiting.reject(storageSilent())
    this.#waiting.clear()
  }

  #expire(): void {
    const now = performance.now()
    for (const waiting of this.#waiting.values()) {
      if (waiting.deadline > now) return
      if (waiting.isLate) continue
      waiting.isLate = true
      waiting.reject(storageSilent())
    }
  }
}

function storageSilent(): RpcError {
  return new RpcError('store_unavailable', { internal: 'the storage thread did not answer in time' })
}
