import { RpcError } from '../../domain/errors.ts'
import type { FromStorage, JobName, JobResult, ToStorage } from './messages.ts'
import type { Writer } from './writer.ts'

/** Jobs that may wait for their commit; more are refused rather than kept in memory. */
const WAITING_MAX = 20_000
const JOB_TIMEOUT_MS = 30_000

interface Waiting {
  readonly resolve: (result: unknown) => void
  readonly reject: (error: RpcError) => void
  readonly deadline: number
}

/** The control thread's end of the storage thread. */
export class StorageClient {
  readonly #post: (message: ToStorage) => void
  readonly #waiting = new Map<number, Waiting>()
  readonly #timer: NodeJS.Timeout
  #lastId = 0
  #isOpen = true

  constructor(post: (message: ToStorage) => void) {
    this.#post = post
    this.#timer = setInterval(() => this.#expire(), 1_000)
    this.#timer.unref()
  }

  /**
   * Resolves once the job's commit is on disk. Rejects with the `RpcError` that the job threw, with
   * `store_full`, or with `store_unavailable` when the thread does not answer.
   */
  run<N extends JobName>(name: N, ...params: Parameters<Writer[N]>): Promise<JobResult<N>> {
    if (!this.#isOpen || this.#waiting.size >= WAITING_MAX) {
      return Promise.reject(
        new RpcError('store_unavailable', { internal: 'the storage thread is not taking jobs' }),
      )
    }
    const id = ++this.#lastId
    return new Promise<JobResult<N>>((resolve, reject) => {
      const settle = (result: unknown) => resolve(result as JobResult<N>)
      this.#waiting.set(id, { resolve: settle, reject, deadline: performance.now() + JOB_TIMEOUT_MS })
      this.#post({ kind: 'job', id, name, params })
    })
  }

  settle(message: Extract<FromStorage, { kind: 'done' | 'failed' }>): void {
    const waiting = this.#waiting.get(message.id)
    this.#waiting.delete(message.id)
    if (message.kind === 'done') waiting?.resolve(message.result)
    else waiting?.reject(new RpcError(message.code, { internal: message.internal }))
  }

  /** The thread is gone: what waits is refused, and its outcome is not known. */
  close(): void {
    this.#isOpen = false
    clearInterval(this.#timer)
    for (const id of [...this.#waiting.keys()]) this.#refuse(id, 'the storage thread ended')
  }

  #expire(): void {
    const now = performance.now()
    for (const [id, waiting] of this.#waiting) {
      if (waiting.deadline > now) return
      this.#refuse(id, 'the storage thread did not answer in time')
    }
  }

  #refuse(id: number, internal: string): void {
    this.#waiting.get(id)?.reject(new RpcError('store_unavailable', { internal }))
    this.#waiting.delete(id)
  }
}
