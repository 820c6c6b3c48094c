import { parentPort, workerData } from 'node:worker_threads'
import { createCheckKey } from '../../src/app/check-key.ts'
import { hashToken } from '../../src/app/tokens.ts'
import type { FromDirectory } from '../../src/stores/embedded/messages.ts'
import { RecordCache } from '../../src/stores/embedded/record-cache.ts'
import { SharedTable, type TableMemory } from '../../src/stores/embedded/shared-table.ts'
import { type ClockAnchor, createSystemClock } from '../../src/telemetry/system-clock.ts'
import { median, percentile } from './figures.ts'

/** A data-plane thread that only checks keys, for store.ts. */

export interface CheckThreadOptions {
  readonly memory: TableMemory
  readonly clock: ClockAnchor
  readonly keys: number
}

export interface CheckThreadFigure {
  readonly kind: 'figure'
  readonly name: string
  readonly value: string
}

export const BENCH_KSID = 'ks_bench'
export const tokenOf = (n: number): string => `bench_${n.toString().padStart(43, '0')}`

const WARM_CHECKS = 400_000
const WARM_KEYS = 10_000
const COLD_CHECKS = 20_000
const FLOOD_ROUNDS = 4
const FLOOD_IN_FLIGHT = 64

if (parentPort !== null && workerData !== null && 'memory' in workerData) {
  await run(parentPort, workerData as CheckThreadOptions)
  parentPort.close()
}

async function run(port: NonNullable<typeof parentPort>, options: CheckThreadOptions): Promise<void> {
  const tell = (name: string, value: string) => port.postMessage({ kind: 'figure', name, value })
  const cache = new RecordCache({
    keysMax: 100_000,
    unknownMax: 10_000,
    post: (message) => port.postMessage(message),
  })
  port.on('message', (message: FromDirectory) => cache.receive(message))
  const check = createCheckKey({
    records: cache,
    buckets: new SharedTable(options.memory),
    clock: createSystemClock(options.clock),
  })
  const accepts = new Set([BENCH_KSID])
  const checkToken = (n: number) => check(hashToken(tokenOf(n)), accepts, 1)
  const randomKey = () => Math.floor(Math.random() * options.keys)

  const cold: number[] = []
  for (let n = 0; n < COLD_CHECKS; n++) {
    const key = randomKey()
    const startedAt = performance.now()
    await checkToken(key)
    cold.push((performance.now() - startedAt) * 1000)
  }
  tell(
    'check of a cold random key',
    `${median(cold).toFixed(0)} µs p50, ${percentile(cold, 0.99).toFixed(0)} µs p99`,
  )

  for (let n = 0; n < WARM_KEYS; n++) await checkToken(n)
  const rounds: number[] = []
  for (let round = 0; round < 7; round++) {
    const startedAt = performance.now()
    for (let n = 0; n < WARM_CHECKS; n++) void checkToken(n % WARM_KEYS)
    rounds.push(((performance.now() - startedAt) * 1e6) / WARM_CHECKS)
  }
  tell('warm check, token hash included', `${median(rounds).toFixed(0)} ns`)

  const megabytes = () => Math.round(process.memoryUsage().rss / 1e6)
  const levels = [megabytes()]
  for (let round = 0; round < FLOOD_ROUNDS; round++) {
    for (let n = 0; n < options.keys; n += FLOOD_IN_FLIGHT) {
      await Promise.all(Array.from({ length: FLOOD_IN_FLIGHT }, () => checkToken(randomKey())))
    }
    levels.push(megabytes())
  }
  tell(
    `memory, after each ${options.keys.toLocaleString('en')} random live tokens`,
    `${levels.join(' → ')} MB`,
  )
  cache.close()
}
