import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import type { Config } from './config/schema.ts'
import type { CacheDirectory } from './data-plane/cache/directory.ts'
import type { TargetSeed } from './data-plane/target-directory.ts'
import type { Logger } from './ports/runtime.ts'
import type { TlsMaterial } from './ports/tls.ts'
import type { Store } from './stores/store.ts'
import type { MetricNames } from './telemetry/counters.ts'
import type { FromThread, ThreadStart, ToThread } from './thread-messages.ts'

/** The data-plane threads: started together, replaced when one dies, reloaded and closed together. */
export interface Threads {
  readonly port: number
  count(): number
  /**
   * First half of a reload: every thread makes ready for the configuration and goes on with the old
   * one. Resolves to what one of them objects to; then nothing has changed.
   */
  prepare(config: Config, names: MetricNames, targets: TargetSeed): Promise<string | undefined>
  /** Second half: resolves when every thread, and every one started from now on, works by it. */
  commit(): Promise<void>
  /** Tells every thread, and those started from now on, of new addresses of targets. */
  setTargets(targets: TargetSeed): void
  /** Drops what was prepared. */
  abandon(): void
  /** Every thread, and every one started from now on, serves these certificates. */
  replaceTls(material: TlsMaterial): void
  /** From now on every answer ends its connection; everything else goes on. */
  drain(): void
  /** Finishes what runs, for at most `graceMs`. */
  close(graceMs: number): Promise<void>
  /** The running workers, for tests that kill one. */
  workers(): readonly Worker[]
}

export interface ThreadsOptions {
  readonly count: number
  readonly start: Omit<ThreadStart, 'index'>
  readonly store: Store
  readonly cache: CacheDirectory
  readonly logger: Logger
  readonly onRestart: () => void
}

interface Thread {
  readonly index: number
  readonly worker: Worker
  /** Which configuration it was started with, or committed to last. */
  version: number
  isListening: boolean
}

type ReloadAnswer = Extract<FromThread, { kind: 'prepared' | 'committed' }>

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
  const threads: Thread[] = []
  let start = options.start
  let version = 0
  let prepared: Pick<ThreadStart, 'config' | 'names' | 'targets'> | undefined
  let isClosing = false

  /** Resolves when the thread listens; rejects when it cannot, or died before. */
  function run(index: number): Promise<number> {
    const startedAt = performance.now()
    const worker = new Worker(new URL(`./worker${extension()}`, import.meta.url), {
      workerData: { index, ...start } satisfies ThreadStart,
      name: `data-plane-${index + 1}`,
    })
    const thread: Thread = { worker, index, version, isListening: false }
    threads[index] = thread
    const served = store.serve({ post: (message) => worker.postMessage(message) })
    const cached = options.cache.join({
      post: (message) => worker.postMessage({ kind: 'cache', message } satisfies ToThread),
    })
    const listening = Promise.withResolvers<number>()

    worker.on('message', (message: FromThread) => {
      switch (message.kind) {
        case 'listening':
          return void catchUp(thread).then(() => {
            thread.isListening = true
            listening.resolve(message.port)
          })
        case 'listen-failed':
          return listening.reject(new Error(message.message))
        // Whoever asked for these listens for them.
        case 'prepared':
        case 'committed':
        case 'closed':
          return
        case 'cache':
          return cached.receive(message.message)
        default:
          return served.receive(message)
      }
    })
    worker.on('error', (error) => {
      // Before it listens, whoever started it is told.
      if (thread.isListening) logger.error('a data-plane thread failed', { data_plane: index + 1, error })
      listening.reject(error)
    })
    worker.on('exit', (code) => {
      served.leave()
      cached.leave()
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
    logger.error('a data-plane thread ended and is started again', {
      data_plane: index + 1,
      exit_code: code,
    })
    options.onRestart()
    for (;;) {
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

  /** A thread that was being started while the others were reloaded does what they did. */
  async function catchUp(thread: Thread): Promise<void> {
    while (thread.version !== version) {
      const target = version
      const { config, names, targets } = start
      await ask(thread, { kind: 'prepare', config, names, targets })
      await ask(thread, { kind: 'commit' })
      thread.version = target
    }
  }

  function listening(): Thread[] {
    return threads.filter((thread) => thread.isListening)
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
    count: () => listening().length,
    workers: () => threads.map((thread) => thread.worker),

    async prepare(config, names, targets) {
      const message: ToThread = { kind: 'prepare', config, names, targets }
      const answers = await Promise.all(listening().map((thread) => ask(thread, message)))
      const problem = answers.find((answer) => answer !== undefined)
      prepared = problem === undefined ? { config, names, targets } : undefined
      return problem
    },

    async commit() {
      if (prepared === undefined) return
      start = { ...start, ...prepared }
      prepared = undefined
      version++
      const target = version
      await Promise.all(
        listening().map(async (thread) => {
          await ask(thread, { kind: 'commit' })
          thread.version = target
        }),
      )
    },

    setTargets(targets) {
      start = { ...start, targets }
      for (const { worker } of threads) worker.postMessage({ kind: 'targets', targets } satisfies ToThread)
    },

    abandon() {
      prepared = undefined
      for (const thread of listening()) thread.worker.postMessage({ kind: 'abandon' } satisfies ToThread)
    },

    replaceTls(material) {
      start = { ...start, tls: material }
      for (const { worker } of threads) worker.postMessage({ kind: 'tls', material } satisfies ToThread)
    },

    drain() {
      for (const { worker } of threads) worker.postMessage({ kind: 'drain' } satisfies ToThread)
    },

    async close(graceMs) {
      isClosing = true
      await Promise.all(threads.map((thread) => closeThread(thread, graceMs, logger)))
    },
  }
}

/**
 * Half of a reload, one at a time for each thread; resolves to what the thread objects to. One that
 * dies meanwhile objects to nothing: its successor starts with the configuration in force.
 */
async function ask(
  { worker, index }: Thread,
  message: Extract<ToThread, { kind: 'prepare' | 'commit' }>,
): Promise<string | undefined> {
  const awaited: ReloadAnswer['kind'] = message.kind === 'prepare' ? 'prepared' : 'committed'
  worker.postMessage(message)
  const answer = await waitFor(worker, RELOAD_TIMEOUT_MS, (from) => from.kind === awaited)
  if (answer === 'late') return `data-plane thread ${index + 1} did not answer in time`
  return answer !== 'gone' && answer.kind === 'prepared' ? answer.problem : undefined
}

async function closeThread(
  { worker, index, isListening }: Thread,
  graceMs: number,
  logger: Logger,
): Promise<void> {
  if (isListening) {
    worker.postMessage({ kind: 'close', graceMs } satisfies ToThread)
    const answer = await waitFor(worker, graceMs + CLOSE_SLACK_MS, (from) => from.kind === 'closed')
    if (answer === 'late') logger.warn('a data-plane thread did not close in time', { data_plane: index + 1 })
  }
  await worker.terminate()
}

/** The first message that is `wanted`, unless time runs out or the thread ends before. */
function waitFor(
  worker: Worker,
  timeoutMs: number,
  wanted: (message: FromThread) => boolean,
): Promise<FromThread | 'late' | 'gone'> {
  return new Promise((resolve) => {
    const settle = (outcome: FromThread | 'late' | 'gone') => {
      clearTimeout(timer)
      worker.off('message', onMessage)
      worker.off('exit', onExit)
      resolve(outcome)
    }
    const onMessage = (message: FromThread) => {
      if (wanted(message)) settle(message)
    }
    const onExit = () => settle('gone')
    const timer = setTimeout(() => settle('late'), timeoutMs)
    worker.on('message', onMessage)
    worker.on('exit', onExit)
  })
}

/** Compiled code starts compiled threads. */
export function extension(): string {
  return import.meta.filename.endsWith('.ts') ? '.ts' : '.js'
}
