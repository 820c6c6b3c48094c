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

  return {
    createKeyspace: async (keyspace) => storage.run('createKeyspace', keyspace),
    findKeyspace: async (ksid) => reader.findKeyspace(ksid),
    listKeyspaces: async (page, visible) => reader.listKeyspaces(page, visible),

    async updateKeyspace(ksid, change) {
      const { found, limitChanged } = await storage.run('updateKeyspace', ksid, change, clock.bucketMs())
      const keyspace = found ? reader.findKeyspace(ksid) : undefined
      if (limitChanged !== undefined) directory.convertKeyspace(limitChanged, keyspace?.limit)
      return keyspace
    },

    async deleteKeyspace(ksid) {
      const seq = await storage.run('deleteKeyspace', ksid, clock.wallMs())
      if (seq !== undefined) directory.dropKeyspace(seq)
      return seq !== undefined
    },

    createKey: async (key) => storage.run('createKey', key),

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

    async updateKey(ksid, kid, change) {
      const seq = await storage.run('updateKey', ksid, kid, change, clock.bucketMs())
      if (seq === undefined) return undefined
      const row = reader.findKey(ksid, kid)
      if (row === undefined) return undefined
      directory.refresh(row)
      return toStoredKey(row)
    },

    async setKeyToken(ksid, kid, tokenHash) {
      const seq = await storage.run('setKeyToken', ksid, kid, tokenHash)
      const row = seq === undefined ? undefined : reader.findKey(ksid, kid)
      if (row !== undefined) directory.refresh(row)
      return seq !== undefined
    },

    async deleteKey(ksid, kid) {
      const seq = await storage.run('deleteKey', ksid, kid)
      if (seq !== undefined) directory.drop(seq)
      return seq !== undefined
    },

    createServiceKey: async (serviceKey, tokenHash) => storage.run('createServiceKey', serviceKey, tokenHash),
    findServiceKey: async (skid) => reader.findServiceKey(skid),
    findServiceKeyByToken: async (tokenHash) => reader.findServiceKeyByToken(tokenHash),
    listServiceKeys: async (page) => reader.listServiceKeys(page),

    async updateServiceKey(skid, change) {
      const found = await storage.run('updateServiceKey', skid, change)
      return found ? reader.findServiceKey(skid) : undefined
    },

    setServiceKeyToken: async (skid, tokenHash) => storage.run('setServiceKeyToken', skid, tokenHash),
    deleteServiceKey: async (skid) => storage.run('deleteServiceKey', skid, clock.wallMs()),
    ping: async () => reader.ping(),
  }
}
