import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Worker } from 'node:worker_threads'
import type { Clock } from '../../src/ports/runtime.ts'
import type { StorageOptions } from '../../src/stores/embedded/messages.ts'
import { type EmbeddedStore, openEmbeddedStore } from '../../src/stores/embedded/store.ts'
import { createFakeLogger } from './fakes.ts'

export function createTempDirectory(): { readonly directory: string; remove(): void } {
  const directory = mkdtempSync(path.join(tmpdir(), 'dripgate-test-'))
  return { directory, remove: () => rmSync(directory, { recursive: true, force: true }) }
}

function spawnStorage(options: StorageOptions): Worker {
  return new Worker(new URL('../../src/storage-worker.ts', import.meta.url), { workerData: options })
}

/** The embedded store with its real storage thread and database, in `directory`. */
export function openTestStore(
  directory: string,
  clock: Clock,
  options: { readonly slots?: number; readonly keepExpiredMs?: number } = {},
): Promise<EmbeddedStore & { readonly logger: ReturnType<typeof createFakeLogger> }> {
  const logger = createFakeLogger()
  return openEmbeddedStore({
    directory,
    slots: options.slots ?? 65_536,
    keepExpiredMs: options.keepExpiredMs ?? 86_400_000,
    clock,
    logger,
    spawnStorage,
    onFatal: (error) => {
      throw error
    },
  }).then((store) => ({ ...store, logger }))
}
