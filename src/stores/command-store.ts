import type { Config } from '../config/schema.ts'
import type { Logger } from '../ports/runtime.ts'
import type { KeyStore } from '../ports/stores.ts'
import { openOfflineStore } from './embedded/offline.ts'
import { openRedisKeyStore } from './redis/store.ts'

/** For the command line: creates service keys straight in the store, beside a gateway that may run on it. */
export async function openCommandStore(
  { store }: Config,
  logger: Logger,
): Promise<Pick<KeyStore, 'createServiceKey'> & { close(): void }> {
  return store.redis === undefined ? openOfflineStore(store.path) : openRedisKeyStore(store.redis, logger)
}
