import { Worker } from 'node:worker_threads'
import type { Config } from './config/schema.ts'
import type { Logger } from './ports/runtime.ts'
import type { EmbeddedStore } from './stores/embedded/store.ts'
import type { MetricNames } from './telemetry/counters.ts'
import type { FromThread, ThreadStart, ToThread } from './thread-messages.ts'

/** The data-plane threads: started together, replaced when one dies, reloaded and closed together. */
export interface Threads {
  readonly port: number
  count(): number
  /** Resolves when every thread works by the new configuration; to what one of them objected to. */
  reload(config: Config, names: MetricNames): Promise<string | undefined>
  /** Finishes what runs, for at most `graceMs`. */
  close(graceMs: number): Promise<void>
  /** The running workers, for tests that kill one. */
  workers(): readonly Worker[]
}

export interface ThreadsOptions {
  readonly count: number
  readonly start: Omit<ThreadStart, 'index'>
  readonly store: EmbeddedStore
  readonly logger: Logger
  readonly onRestart: () => void
}

interface Thread {
  worker: Worker
  isListening: boolean
  readonly index: number
}

const RESTART_DELAY_MS = 50
const RESTART_DELAY_MS_MAX = 5_000
/** A thread that lived this long is not in a crash loop. */
const HEALTHY_AFTER_MS = 10_000
const RELOAD_TIMEOUT_MS = 10_000
/** Over `graceMs`, for a thread to say that it has closed. */
const CLOSE_SLACK_MS = 2_000

/** Rejects with an `Error` for people where the listener cannot be opened. */
export async function startThreads(options: ThreadsOptions): Promise<Threads> {
  const { store, logger } = options
  let start = options.start
  let isClosing = false
  let lastReload = 0
  const threads: Thread[] = []
  const reloads = new Map<string, (problem: string | undefined) => void>()

  /** Resolves when the thread listens; rejects when it cannot, or died before. */
  function run(index: number): Promise<number> {
    const startedAt = performance.now()
    const worker = new Worker(new URL(`./worker${extension()}`, import.meta.url), {
      workerData: { index, ...start } satisfies ThreadStart,
      name: `data-plane-${index + 1}`,
    })
    const thread: Thread = { worker, index, isListening: false }
    threads[index] = thread
    const directory = store.serve({ post: (message) => worker.postMessage(message) })
    const listening = Promise.withResolvers<number>()

    worker.on('message', (message: FromThread) => {
      switch (message.kind) {
        case 'find':
        case 'quiescent':
          return directory.receive(message)
        case 'listening':
          thread.isListening = true
          return listening.resolve(message.port)
        case 'listen-failed':
          return listening.reject(new Error(message.message))
        case 'reloaded':
          return reloads.get(`${message.id}/${index}`)?.(message.problem)
        case 'closed':
          return
      }
    })
    worker.on('error', (error) => {
      // Before it listens, whoever started it is told.
      if (thread.isListening) logger.error('a data-plane thread failed', { data_plane: index + 1, error })
      listening.reject(error)
    })
    worker.on('exit', (code) => {
      directory.leave()
      const wasListening = thread.isListening
      thread.isListening = false
      listening.reject(
        new Error(`data-plane thread ${index + 1} ended before it listened (exit code ${code})`),
      )
      if (!isClosing && wasListening) void restart(index, code, performance.now() - startedAt)
    })
    return listening.promise
  }

  async function restart(index: number, code: number, livedMs: number): Promise<void> {
    let delayMs = livedMs > HEALTHY_AFTER_MS ? RESTART_DELAY_MS : RESTART_DELAY_MS * 4
    for (;;) {
      logger.error('a data-plane thread ended and is started again', {
        data_plane: index + 1,
        exit_code: code,
      })
      options.onRestart()
      await sleep(delayMs)
      if (isClosing) return
      try {
        await run(index)
        return
      } catch (error) {
        logger.error('a data-plane thread cannot be started', { data_plane: index + 1, error })
        delayMs = Math.min(2 * delayMs, RESTART_DELAY_MS_MAX)
      }
    }
  }

  const ports = await Promise.all(Array.from({ length: options.count }, (_, index) => run(index))).catch(
    async (error: unknown) => {
      isClosing = true
      await Promise.all(threads.map((thread) => thread.worker.terminate()))
      throw error
    },
  )

  return {
    port: ports[0] ?? 0,
    count: () => threads.filter((thread) => thread.isListening).length,
    workers: () => threads.map((thread) => thread.worker),

    async reload(config, names) {
      start = { ...start, config, names }
      const id = ++lastReload
      const answers = threads
        .filter((thread) => thread.isListening)
        .map((thread) => askToReload(thread, { kind: 'reload', id, config, names }))
      const problems = await Promise.all(answers)
      return problems.find((problem) => problem !== undefined)
    },

    async close(graceMs) {
      isClosing = true
      await Promise.all(threads.map((thread) => closeThread(thread, graceMs)))
    },
  }

  function askToReload(
    thread: Thread,
    message: Extract<ToThread, { kind: 'reload' }>,
  ): Promise<string | undefined> {
    const key = `${message.id}/${thread.index}`
    return new Promise<string | undefined>((resolve) => {
      const timer = setTimeout(
        () => resolve(`thread ${thread.index + 1} did not answer in time`),
        RELOAD_TIMEOUT_MS,
      )
      const settle = (problem: string | undefined) => {
        clearTimeout(timer)
        resolve(problem)
      }
      reloads.set(key, settle)
      // A thread that dies meanwhile is replaced by one that starts with the new configuration.
      thread.worker.once('exit', () => settle(undefined))
      thread.worker.postMessage(message)
    }).finally(() => reloads.delete(key))
  }

  async function closeThread(thread: Thread, graceMs: number): Promise<void> {
    const { worker } = thread
    if (thread.isListening) {
      const closed = new Promise<void>((resolve) => {
        const timer = setTimeout(() => {
          logger.warn('a data-plane thread did not close in time', { data_plane: thread.index + 1 })
          resolve()
        }, graceMs + CLOSE_SLACK_MS)
        const settle = () => {
          clearTimeout(timer)
          resolve()
        }
        worker.on('message', (message: FromThread) => message.kind === 'closed' && settle())
        worker.once('exit', settle)
      })
      worker.postMessage({ kind: 'close', graceMs } satisfies ToThread)
      await closed
    }
    await worker.terminate()
  }
}

/** Compiled code starts compiled threads. */
export function extension(): string {
  return import.meta.filename.endsWith('.ts') ? '.ts' : '.js'
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
