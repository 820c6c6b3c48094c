import { parentPort, workerData } from 'node:worker_threads'
import type { StorageOptions } from './stores/embedded/messages.ts'
import { runStorageThread } from './stores/embedded/storage-thread.ts'

/** Composition root of the storage thread. */
if (parentPort !== null) runStorageThread(parentPort, workerData as StorageOptions)
