import type { KeyStore } from '../ports/stores.ts'
import { type Answer, toJsonAnswer } from './answers.ts'

/** Every check by name, with `ok` or what is wrong. */
export interface Readiness {
  readonly ready: boolean
  readonly checks: Readonly<Record<string, string>>
}

export interface HealthDeps {
  readonly keyStore: KeyStore
  /** What only the process knows: listeners, threads. */
  readonly readiness: () => Promise<Readiness>
}

const CHECK_TIMEOUT_MS = 2_000

/** Up as long as the process can answer at all. */
export function answerLive(): Answer {
  return toJsonAnswer({ live: true })
}

/** The answer that clients of driplimit know. */
export function answerHealthy(): Answer {
  return toJsonAnswer({ healthy: true })
}

/** 200 when requests are welcome; 503 from the first moment of a drain, or while the store is silent. */
export async function answerReady(deps: HealthDeps, isDraining: boolean): Promise<Answer> {
  if (isDraining) return toReadyAnswer({ ready: false, checks: { drain: 'draining' } })
  const [store, process] = await Promise.all([
    within(CHECK_TIMEOUT_MS, async () => {
      await deps.keyStore.ping()
      return { ready: true, checks: { store: 'ok' } }
    }).catch(() => ({ ready: false, checks: { store: 'unavailable' } })),
    within(CHECK_TIMEOUT_MS, deps.readiness).catch(() => ({ ready: false, checks: { process: 'unknown' } })),
  ])
  return toReadyAnswer({
    ready: store.ready && process.ready,
    checks: { ...process.checks, ...store.checks },
  })
}

function toReadyAnswer(readiness: Readiness): Answer {
  return toJsonAnswer(readiness, readiness.ready ? 200 : 503)
}

async function within<T>(timeoutMs: number, act: () => Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer in time')), timeoutMs)
  })
  try {
    return await Promise.race([act(), late])
  } finally {
    clearTimeout(timer)
  }
}
