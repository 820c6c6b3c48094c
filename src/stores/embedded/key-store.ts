import type { Clock } from '../../ports/runtime.ts'
import type { KeyStore, StoredKey } from '../../ports/stores.ts'
import type { KeyReader } from './key-reader.ts'
import type { KeyRow } from './rows.ts'
import { type SlotDirectory, toLimit } from './slot-directory.ts'
import type { StorageClient } from './storage-client.ts'

/**
 * The key store of one process. Reads go to the control thread's own connection; writes go to the
 * storage thread, and when they are on disk the slots of the keys that they touch are retired,
 * before the promise resolves. So no thread acts on the old state after the answer.
 */
export function createKeyStore(deps: {
  readonly reader: KeyReader
  readonly storage: StorageClient
  readonly directory: SlotDirectory
  readonly clock: Clock
}): KeyStore {
  const { reader, storage, directory, clock } = deps

  function toStoredKey(row: KeyRow): StoredKey {
    const { key } = row
    const state = directory.current(row.seq) ?? row.stored
    if (state === undefined) return { key, bucket: undefined, lastUsedMs: undefined }
    const { bucket, lastUsedMs } = toLimit(state, key.limit, key.createdAtMs, clock.bucketMs())
    return { key, bucket, lastUsedMs }
  }

  function refresh(ksid: string, kid: string): KeyRow | undefined {
    const row = reader.findKey(ksid, kid)
    if (row !== undefined) directory.refresh(row)
    return row
  }

  return {
    createKeyspace: (keyspace) => storage.run('createKeyspace', [keyspace]),
    findKeyspace: async (ksid) => reader.findKeyspace(ksid),
    listKeyspaces: async (page, visible) => reader.listKeyspaces(page, visible),

    updateKeyspace: (ksid, change) =>
      storage.run('updateKeyspace', [ksid, change, clock.bucketMs()], ({ found, limitChanged }) => {
        const keyspace = found ? reader.findKeyspace(ksid) : undefined
        if (limitChanged !== undefined) directory.convertKeyspace(limitChanged, keyspace?.limit)
        return keyspace
      }),

    deleteKeyspace: (ksid) =>
      storage.run('deleteKeyspace', [ksid, clock.wallMs()], (seq) => {
        if (seq !== undefined) directory.dropKeyspace(seq)
        return seq !== undefined
      }),

    createKey: (key) => storage.run('createKey', [key]),

    async findKey(ksid, kid) {
      const row = reader.findKey(ksid, kid)
      return row && toStoredKey(row)
    },

    async findKeyByToken(tokenHash) {
      const row = reader.findKeyByToken(tokenHash)
      return row && toStoredKey(row)
    },

    async listKeys(ksid, page) {
      const { items, total } = reader.listKeys(ksid, page)
      return { items: items.map(toStoredKey), total }
    },

    updateKey: (ksid, kid, change) =>
      storage.run('updateKey', [ksid, kid, change, clock.bucketMs()], (found) => {
        const row = found ? refresh(ksid, kid) : undefined
        return row && toStoredKey(row)
      }),

    setKeyToken: (ksid, kid, tokenHash) =>
      storage.run('setKeyToken', [ksid, kid, tokenHash], (found) => {
        if (found) refresh(ksid, kid)
        return found
      }),

    deleteKey: (ksid, kid) =>
      storage.run('deleteKey', [ksid, kid], (seq) => {
        if (seq !== undefined) directory.drop(seq)
        return seq !== undefined
      }),

    createServiceKey: (serviceKey, tokenHash) => storage.run('createServiceKey', [serviceKey, tokenHash]),
    findServiceKey: async (skid) => reader.findServiceKey(skid),
    findServiceKeyByToken: async (tokenHash) => reader.findServiceKeyByToken(tokenHash),
    listServiceKeys: async (page) => reader.listServiceKeys(page),
    updateServiceKey: (skid, change) =>
      storage.run('updateServiceKey', [skid, change], (found) =>
        found ? reader.findServiceKey(skid) : undefined,
      ),
    setServiceKeyToken: (skid, tokenHash) => storage.run('setServiceKeyToken', [skid, tokenHash]),
    deleteServiceKey: (skid) => storage.run('deleteServiceKey', [skid, clock.wallMs()]),
    ping: async () => reader.ping(),
  }
}
