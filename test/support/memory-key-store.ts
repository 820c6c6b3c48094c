import { type BucketState, convert, gridFloor, type Limit, sameLimit, take } from '../../src/domain/bucket.ts'
import { RpcError } from '../../src/domain/errors.ts'
import type { Expiry, Keyspace } from '../../src/domain/key.ts'
import type { ServiceKey } from '../../src/domain/service-key.ts'
import type { Clock } from '../../src/ports/runtime.ts'
import {
  type BucketStore,
  type KeyChange,
  type KeyRecord,
  type KeyStore,
  type KeyspaceChange,
  type NewKey,
  type Page,
  type PageRequest,
  type RecordSource,
  type ServiceKeyChange,
  type StoredKey,
  StoreUnavailable,
} from '../../src/ports/stores.ts'

interface Entry {
  readonly key: NewKey
  tokenHash: string
  expiresAt: Expiry | undefined
  ownLimit: Limit | undefined
  bucket: BucketState | undefined
  lastUsedMs: number | undefined
  isDeleted: boolean
  version: number
}

export interface MemoryRecord extends KeyRecord {
  readonly entry: Entry
  readonly version: number
}

export interface MemoryStore extends KeyStore, RecordSource<MemoryRecord>, BucketStore<MemoryRecord> {
  /** What every call fails with from now on; `undefined` heals it. */
  failure: Error | undefined
  calls: string[]
  /** What a start does to buckets that were written when the clock was ahead of today's. */
  restart(): void
}

/** The ports of the store in memory, for tests: simple, and as strict as the contract. */
export function createMemoryStore(clock: Clock): MemoryStore {
  const keyspaces = new Map<string, Keyspace>()
  const keys: Entry[] = []
  const serviceKeys = new Map<string, { serviceKey: ServiceKey; tokenHash: string }>()
  const usedSkids = new Set<string>()

  function assertKeyspaces(policies: ServiceKey['policies']): void {
    for (const ksid of policies.keys()) {
      if (ksid !== '*' && !keyspaces.has(ksid)) throw new RpcError('keyspace_not_found')
    }
  }
  const limitOf = (entry: Entry) => entry.ownLimit ?? keyspaces.get(entry.key.ksid)?.limit
  const live = (ksid: string, kid: string) =>
    keys.find((entry) => !entry.isDeleted && entry.key.ksid === ksid && entry.key.kid === kid)
  const withToken = (hash: string) => keys.find((entry) => !entry.isDeleted && entry.tokenHash === hash)

  function toStored(entry: Entry): StoredKey {
    const { kid, ksid, createdAtMs } = entry.key
    const { expiresAt, ownLimit, bucket, lastUsedMs } = entry
    return { key: { kid, ksid, createdAtMs, expiresAt, ownLimit, limit: limitOf(entry) }, bucket, lastUsedMs }
  }

  /** Carries buckets over whatever `change` does to limits, and outdates records. */
  function reworking(entries: readonly Entry[], change: () => void): void {
    const before = entries.map(limitOf)
    change()
    entries.forEach((entry, index) => {
      entry.version++
      const [from, to] = [before[index], limitOf(entry)]
      if (sameLimit(from, to)) return
      entry.bucket = convert(entry.bucket, { from, to }, entry.key.createdAtMs, clock.bucketMs())
    })
  }

  function assertFree(keyspace: Pick<Keyspace, 'ksid' | 'name' | 'keysPrefix'>): void {
    for (const other of keyspaces.values()) {
      const isSame = other.name === keyspace.name || other.keysPrefix === keyspace.keysPrefix
      if (other.ksid !== keyspace.ksid && isSame) throw new RpcError('keyspace_exists')
    }
  }

  const store: MemoryStore = {
    failure: undefined,
    calls: [],
    async createKeyspace(keyspace) {
      if (keyspaces.has(keyspace.ksid)) throw new RpcError('keyspace_exists')
      assertFree(keyspace)
      keyspaces.set(keyspace.ksid, keyspace)
    },
    findKeyspace: async (ksid) => keyspaces.get(ksid),
    async listKeyspaces(page, visible) {
      const shown = [...keyspaces.values()].filter(({ ksid }) => visible?.has(ksid) ?? true)
      return toPage(
        shown.sort((a, b) => compare(a.name, b.name) || compare(a.ksid, b.ksid)),
        page,
      )
    },
    async updateKeyspace(ksid, change: KeyspaceChange) {
      const present = keyspaces.get(ksid)
      if (present === undefined) return undefined
      const { limit, ...others } = change
      const next = {
        ...present,
        ...others,
        limit: limit === undefined ? present.limit : (limit ?? undefined),
      }
      assertFree(next)
      reworking(
        keys.filter((entry) => entry.key.ksid === ksid),
        () => keyspaces.set(ksid, next),
      )
      return next
    },
    async deleteKeyspace(ksid) {
      for (const entry of keys) if (entry.key.ksid === ksid) entry.isDeleted = true
      for (const row of serviceKeys.values()) {
        const policies = new Map(row.serviceKey.policies)
        if (policies.delete(ksid)) row.serviceKey = { ...row.serviceKey, policies }
      }
      return keyspaces.delete(ksid)
    },
    async createKey(key) {
      if (!keyspaces.has(key.ksid)) throw new RpcError('keyspace_not_found')
      const { tokenHash, expiresAt, ownLimit } = key
      const fresh = { bucket: undefined, lastUsedMs: undefined, isDeleted: false, version: 0 }
      keys.push({ key, tokenHash, expiresAt, ownLimit, ...fresh })
    },
    async findKey(ksid, kid) {
      const entry = live(ksid, kid)
      return entry && toStored(entry)
    },
    async findKeyByToken(tokenHash) {
      const entry = withToken(tokenHash)
      return entry && toStored(entry)
    },
    async listKeys(ksid, page) {
      const shown = keys.filter((entry) => !entry.isDeleted && entry.key.ksid === ksid)
      return toPage(shown.reverse().map(toStored), page)
    },
    async updateKey(ksid, kid, change: KeyChange) {
      const entry = live(ksid, kid)
      if (entry === undefined) return undefined
      reworking([entry], () => {
        if (change.expiresAt !== undefined) entry.expiresAt = change.expiresAt ?? undefined
        if (change.ownLimit !== undefined) entry.ownLimit = change.ownLimit ?? undefined
      })
      return toStored(entry)
    },
    async setKeyToken(ksid, kid, tokenHash) {
      const entry = live(ksid, kid)
      if (entry === undefined) return false
      entry.tokenHash = tokenHash
      entry.version++
      return true
    },
    async deleteKey(ksid, kid) {
      const entry = live(ksid, kid)
      if (entry === undefined) return false
      entry.isDeleted = true
      return true
    },
    async createServiceKey(serviceKey, tokenHash) {
      const isTaken = [...serviceKeys.values()].some((row) => row.tokenHash === tokenHash)
      if (usedSkids.has(serviceKey.skid) || isTaken) throw new RpcError('service_key_exists')
      assertKeyspaces(serviceKey.policies)
      usedSkids.add(serviceKey.skid)
      serviceKeys.set(serviceKey.skid, { serviceKey, tokenHash })
    },
    findServiceKey: async (skid) => serviceKeys.get(skid)?.serviceKey,
    findServiceKeyByToken: async (tokenHash) =>
      [...serviceKeys.values()].find((row) => row.tokenHash === tokenHash)?.serviceKey,
    async listServiceKeys(page) {
      return toPage(
        [...serviceKeys.values()].map((row) => row.serviceKey),
        page,
      )
    },
    async updateServiceKey(skid, change: ServiceKeyChange) {
      const row = serviceKeys.get(skid)
      if (row === undefined) return undefined
      if (change.policies !== undefined) assertKeyspaces(change.policies)
      row.serviceKey = { ...row.serviceKey, ...change }
      return row.serviceKey
    },
    async setServiceKeyToken(skid, tokenHash) {
      const row = serviceKeys.get(skid)
      if (row === undefined) return false
      const isTaken = [...serviceKeys].some(
        ([other, { tokenHash: hash }]) => other !== skid && hash === tokenHash,
      )
      if (isTaken) throw new RpcError('service_key_exists')
      row.tokenHash = tokenHash
      return true
    },
    deleteServiceKey: async (skid) => serviceKeys.delete(skid),
    ping: async () => {},
    restart() {
      const nowMs = clock.bucketMs()
      for (const entry of keys) {
        const limit = limitOf(entry)
        if (entry.bucket === undefined || limit === undefined || entry.bucket.lastRefilledMs <= nowMs)
          continue
        const lastRefilledMs = gridFloor(limit, entry.key.createdAtMs, nowMs)
        entry.bucket = { remaining: entry.bucket.remaining, lastRefilledMs }
      }
    },

    find(tokenHash) {
      const entry = withToken(tokenHash)
      if (entry === undefined) return undefined
      const { kid, ksid, createdAtMs } = entry.key
      const expiresAtMs = entry.expiresAt?.ms ?? Number.POSITIVE_INFINITY
      return { kid, ksid, createdAtMs, limit: limitOf(entry), expiresAtMs, entry, version: entry.version }
    },
    forget() {},
    take({ entry, version, limit, createdAtMs }, cost, nowMs, wallMs) {
      if (entry.isDeleted || entry.version !== version) {
        return { kind: 'stale', remaining: 0, lastRefilledMs: 0 }
      }
      if (limit === undefined) {
        entry.lastUsedMs = wallMs
        return { kind: 'taken', remaining: 0, lastRefilledMs: 0 }
      }
      const { allowed, state } = take(entry.bucket, limit, createdAtMs, nowMs, cost)
      if (!allowed) return { kind: 'denied', ...state }
      entry.bucket = state
      entry.lastUsedMs = wallMs
      return { kind: 'taken', ...state }
    },
  }
  return breakable(store)
}

export function toOutage(): StoreUnavailable {
  return new StoreUnavailable('the disk at /var/lib/secret-place went away')
}

/** Notes every call, and lets it fail where the test asked for that. */
function breakable(store: MemoryStore): MemoryStore {
  return new Proxy(store, {
    get(target, name, receiver) {
      const value: unknown = Reflect.get(target, name, receiver)
      if (typeof value !== 'function') return value
      return (...args: unknown[]) => {
        target.calls.push(String(name))
        if (target.failure !== undefined) {
          if (name === 'take' || name === 'find') throw target.failure
          return Promise.reject(target.failure)
        }
        return Reflect.apply(value, target, args)
      }
    },
  })
}

function toPage<T>(items: readonly T[], { page, limit }: PageRequest): Page<T> {
  return { items: items.slice((page - 1) * limit, page * limit), total: items.length }
}

function compare(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}
