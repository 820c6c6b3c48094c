import { RpcError } from '../../domain/errors.ts'
import { type KeyStore, StoreUnavailable } from '../../ports/stores.ts'
import { textOf } from './connection.ts'
import { createKeyTable } from './key-table.ts'
import { createKeyspaceTable } from './keyspace-table.ts'
import type { Management } from './management.ts'
import { createServiceKeyTable } from './service-key-table.ts'

/**
 * The key store over Redis. A write is one atomic step on the management data; what the data plane
 * reads is brought in line with it before the promise resolves, on every thread of this node by a
 * message that is waited for, and on other nodes by the channel.
 */
export function createKeyStore(management: Management): KeyStore {
  const store: KeyStore = {
    ...createKeyspaceTable(management),
    ...createKeyTable(management),
    ...createServiceKeyTable(management),
    ping: async () => void (await management.connection.call(management.timeoutMs, 'PING', [])),
  }
  return withRpcErrors(store)
}

function withRpcErrors(store: KeyStore): KeyStore {
  const wrapped = Object.entries(store).map(([name, act]) => {
    const guarded = async (...params: unknown[]) => {
      try {
        return await act(...params)
      } catch (error) {
        throw toRpcError(error)
      }
    }
    return [name, guarded]
  })
  return Object.fromEntries(wrapped) as KeyStore
}

function toRpcError(error: unknown): unknown {
  if (!(error instanceof StoreUnavailable)) return error
  const isFull = /\bOOM\b/.test(textOf(error))
  return new RpcError(isFull ? 'store_full' : 'store_unavailable', { internal: error.message, cause: error })
}
