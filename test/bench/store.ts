import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { databaseFile, openWriter } from '../../src/stores/embedded/database.ts'
import type { ToDirectory } from '../../src/stores/embedded/messages.ts'
import { type EmbeddedStore, openEmbeddedStore } from '../../src/stores/embedded/store.ts'
import { createWriter } from '../../src/stores/embedded/writer.ts'
import { createClockAnchor, createSystemClock } from '../../src/telemetry/system-clock.ts'
import { createFakeLogger } from '../support/fakes.ts'
import { BENCH_KSID, type CheckThreadFigure, type CheckThreadOptions, tokenOf } from './check-thread.ts'
import { median, row } from './figures.ts'

/** The embedded store with a million keys: `npm run bench -- store [KEYS]`. */

export async function benchStore(keys = 1_000_000): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), 'dripgate-bench-'))
  try {
    const seedSeconds = await seedElsewhere(directory, keys)
    row('keys', keys.toLocaleString('en'))
    row('filled at', `${Math.round(keys / seedSeconds).toLocaleString('en')} keys/s`)
    row('database', `${Math.round(statSync(databaseFile(directory)).size / 1e6)} MB`)
    const startedAt = performance.now()
    const store = await openStore(directory)
    row('open', `${(performance.now() - startedAt).toFixed(0)} ms`)
    await benchLists(store, keys)
    await benchChecks(store, keys)
    await store.close()
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** In a thread that is then gone, so that its garbage is in no later figure. */
async function seedElsewhere(directory: string, keys: number): Promise<number> {
  const worker = new Worker(new URL(import.meta.url), { workerData: { directory, keys } })
  const [seconds] = await once(worker, 'message')
  await once(worker, 'exit')
  return Number(seconds)
}

if (!isMainThread && workerData !== null && 'directory' in workerData) {
  parentPort?.postMessage(seed(workerData.directory, workerData.keys))
}

function seed(directory: string, keys: number): number {
  const database = openWriter(directory)
  const writer = createWriter(database)
  const startedAt = performance.now()
  const createdAtMs = Date.now()
  writer.createKeyspace({
    ksid: BENCH_KSID,
    name: 'bench',
    keysPrefix: 'bench_',
    limit: { capacity: 1_000_000_000, rate: 100, intervalMs: 1000 },
    requireExpiration: false,
    createdAtMs,
  })
  for (let n = 0; n < keys; ) {
    database.exec('BEGIN')
    for (const end = Math.min(keys, n + 5_000); n < end; n++) {
      const tokenHash = createHash('sha256').update(tokenOf(n)).digest('hex')
      writer.createKey({
        kid: `k_${n}`,
        ksid: BENCH_KSID,
        tokenHash,
        createdAtMs,
        expiresAt: undefined,
        ownLimit: undefined,
      })
    }
    database.exec('COMMIT')
  }
  database.close()
  return (performance.now() - startedAt) / 1000
}

function openStore(directory: string): Promise<EmbeddedStore> {
  return openEmbeddedStore({
    directory,
    slots: 400_000,
    keepExpiredMs: 86_400_000,
    clock: createSystemClock(createClockAnchor()),
    logger: createFakeLogger(),
    spawnStorage: (workerData) =>
      new Worker(new URL('../../src/storage-worker.ts', import.meta.url), { workerData }),
    onFatal: (error) => {
      throw error
    },
  })
}

async function benchLists(store: EmbeddedStore, keys: number): Promise<void> {
  for (const [name, page] of [
    ['first', 1],
    ['middle', Math.ceil(keys / 200)],
    ['last', Math.ceil(keys / 100)],
  ] as const) {
    const times: number[] = []
    for (let n = 0; n < 15; n++) {
      const startedAt = performance.now()
      await store.keyStore.listKeys(BENCH_KSID, { page, limit: 100 })
      times.push(performance.now() - startedAt)
    }
    row(`list, ${name} page of 100`, `${median(times).toFixed(2)} ms`)
  }
}

/** The checks run on a thread of their own, as they do in the gateway. */
async function benchChecks(store: EmbeddedStore, keys: number): Promise<void> {
  const options: CheckThreadOptions = { memory: store.memory, clock: createClockAnchor(), keys }
  const worker = new Worker(new URL('./check-thread.ts', import.meta.url), { workerData: options })
  const served = store.serve({ post: (message) => worker.postMessage(message) })
  await new Promise<void>((resolve, reject) => {
    worker.on('error', reject)
    worker.on('exit', () => resolve())
    worker.on('message', (message: ToDirectory | CheckThreadFigure) => {
      if (message.kind === 'figure') row(message.name, message.value)
      else served.receive(message)
    })
  })
  served.leave()
  row(`slots used of ${store.memory.slots.toLocaleString('en')}`, store.slotsUsed().toLocaleString('en'))
}
