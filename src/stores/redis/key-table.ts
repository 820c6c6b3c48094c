import { sameLimit } from '../../domain/bucket.ts'
import { RpcError } from '../../domain/errors.ts'
import { type KeyStore, type NewKey, type StoredKey, StoreUnavailable } from '../../ports/stores.ts'
import { convertBucket, endBucket } from './bucket-changes.ts'
import { parseBucket } from './bucket-state.ts'
import { toScript } from './connection.ts'
import { shardOf } from './layout.ts'
import {
  change,
  type Management,
  nextInstant,
  nextNumber,
  readJson,
  readList,
  readMany,
  readText,
} from './management.ts'
import {
  parseStored,
  type StoredKeyJson,
  type StoredKeyspace,
  toKey,
  toLimit,
  toStoredLimit,
} from './records.ts'
import type { Check, Write } from './transaction.ts'

type KeyTable = Pick<
  KeyStore,
  'createKey' | 'findKey' | 'findKeyByToken' | 'listKeys' | 'updateKey' | 'setKeyToken' | 'deleteKey'
>

/** Replaces the data plane's copy of a key, unless it is gone or newer. ARGV: JSON, version, expiry or 0. */
const REPLACE_COPY = toScript(`
local before = redis.call('GET', KEYS[1])
if not before or cjson.decode(before).version >= tonumber(ARGV[2]) then return 0 end
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[1]) else redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[3]) end
return 1
`)

const refuse = (check: Check) => new StoreUnavailable(`a new key has the name of another (${check.kind})`)

/**
 * Keys: the truth is with the management data, and the data plane's copy lies under the hash of the
 * token. The copy is removed before a key is, and made after it, so that a crash in between leaves
 * a token that does not work, never one that cannot be revoked.
 */
export function createKeyTable(management: Management): KeyTable {
  const { connection, layout, timeoutMs, keepExpiredMs } = management
  const keyOf = (kid: string) => layout.meta(`key:${kid}`)
  const keyspaceOf = (ksid: string) => layout.meta(`keyspace:${ksid}`)
  const expiring = layout.meta('expiring')
  const sweepAt = (key: StoredKeyJson) =>
    key.expiresAt === null ? undefined : key.expiresAt[1] + keepExpiredMs
  const dropCopy = (tokenHash: string) => connection.call(timeoutMs, 'DEL', [layout.token(tokenHash)])
  const announce = (tokenHash: string, kid: string) => management.announce({ kind: 'token', tokenHash, kid })

  async function addCopy(key: StoredKeyJson): Promise<void> {
    const at = sweepAt(key)
    const expiry = at === undefined ? [] : ['PXAT', at]
    await connection.call(timeoutMs, 'SET', [
      layout.token(key.tokenHash),
      JSON.stringify(key),
      'NX',
      ...expiry,
    ])
  }

  async function replaceCopy(key: StoredKeyJson): Promise<void> {
    const args = [JSON.stringify(key), key.version, sweepAt(key) ?? 0]
    await connection.run(timeoutMs, REPLACE_COPY, [layout.token(key.tokenHash)], args)
  }

  async function findBoth(ksid: string, kid: string) {
    const [text, keyspaceText] = await readMany(management, [keyOf(kid), keyspaceOf(ksid)])
    const key = parseStored<StoredKeyJson>(text)
    const keyspace = parseStored<StoredKeyspace>(keyspaceText)
    if (typeof text !== 'string' || key === undefined || keyspace?.number !== key.keyspace) return undefined
    return { text, key, keyspace }
  }

  async function findKey(ksid: string, kid: string): Promise<StoredKey | undefined> {
    const found = await findBoth(ksid, kid)
    if (found === undefined) return undefined
    return (await toStoredKeys(management, [found.key], found.keyspace))[0]
  }

  return {
    findKey,

    async createKey(wanted) {
      const number = await nextNumber(management)
      const created = await change(
        management,
        async () => {
          const text = await readText(management, keyspaceOf(wanted.ksid))
          const keyspace = parseStored<StoredKeyspace>(text)
          if (text === undefined || keyspace === undefined) return undefined
          const key = toStored(wanted, number, keyspace)
          const checks: Check[] = [
            { kind: 'is', key: keyspaceOf(wanted.ksid), text },
            { kind: 'absent', key: keyOf(key.kid) },
          ]
          const writes: Write[] = [
            ['SET', keyOf(key.kid), JSON.stringify(key)],
            ['ZADD', layout.meta(`keys:${keyspace.number}`), number, key.kid],
            ...toExpiryWrite(key),
          ]
          return { checks, writes, result: key }
        },
        refuse,
      )
      if (created === undefined) throw new RpcError('keyspace_not_found')
      await addCopy(created)
    },

    async findKeyByToken(tokenHash) {
      const copy = await readJson<StoredKeyJson>(management, layout.token(tokenHash))
      return copy && findKey(copy.ksid, copy.kid)
    },

    async listKeys(ksid, page) {
      const keyspace = await readJson<StoredKeyspace>(management, keyspaceOf(ksid))
      if (keyspace === undefined) return { items: [], total: 0 }
      const list = layout.meta(`keys:${keyspace.number}`)
      const { members, total } = await readList(management, 'ZREVRANGE', list, page)
      const texts = await readMany(management, members.map(keyOf))
      const keys = texts.map((text) => parseStored<StoredKeyJson>(text)).filter((key) => key !== undefined)
      return { items: await toStoredKeys(management, keys, keyspace), total }
    },

    async updateKey(ksid, kid, wanted) {
      const changed = await change(
        management,
        async () => {
          const found = await findBoth(ksid, kid)
          if (found === undefined) return undefined
          const { key: before, keyspace } = found
          const { expiresAt, ownLimit } = wanted
          const limit = ownLimit === undefined ? toLimit(before.limit) : (ownLimit ?? undefined)
          const isLimitChanged = !sameLimit(limit, toLimit(before.limit))
          const after: StoredKeyJson = {
            ...before,
            version: before.version + 1,
            expiresAt:
              expiresAt === undefined
                ? before.expiresAt
                : expiresAt === null
                  ? null
                  : [expiresAt.text, expiresAt.ms],
            limit: toStoredLimit(limit),
            limitAt: isLimitChanged ? await nextInstant(management) : before.limitAt,
          }
          const writes: Write[] = [['SET', keyOf(kid), JSON.stringify(after)], ...toExpiryWrite(after)]
          const checks: Check[] = [{ kind: 'is', key: keyOf(kid), text: found.text }]
          return { checks, writes, result: { before, after, keyspace, isLimitChanged } }
        },
        refuse,
      )
      if (changed === undefined) return undefined
      const { before, after, keyspace } = changed
      await replaceCopy(after)
      if (changed.isLimitChanged) {
        const limitBefore = { ...keyspace, limit: before.limit ?? keyspace.limit }
        await convertBucket(management, after, limitBefore, keyspace)
      }
      await announce(after.tokenHash, kid)
      return findKey(ksid, kid)
    },

    async setKeyToken(ksid, kid, tokenHash) {
      const changed = await change(
        management,
        async () => {
          const found = await findBoth(ksid, kid)
          if (found === undefined) return undefined
          const after = { ...found.key, version: found.key.version + 1, tokenHash }
          const checks: Check[] = [{ kind: 'is', key: keyOf(kid), text: found.text }]
          return {
            checks,
            writes: [['SET', keyOf(kid), JSON.stringify(after)]],
            result: { before: found.key, after },
          }
        },
        refuse,
      )
      if (changed === undefined) return false
      await dropCopy(changed.before.tokenHash)
      await addCopy(changed.after)
      // A delete or another change may have come in between and have missed the copy.
      const now = await readJson<StoredKeyJson>(management, keyOf(kid))
      if (now?.tokenHash !== tokenHash) await dropCopy(tokenHash)
      else if (now.version !== changed.after.version) await replaceCopy(now)
      await announce(changed.before.tokenHash, kid)
      return now !== undefined
    },

    async deleteKey(ksid, kid) {
      const deleted = await change(
        management,
        async () => {
          const found = await findBoth(ksid, kid)
          if (found === undefined) return undefined
          const { key } = found
          await dropCopy(key.tokenHash)
          const writes: Write[] = [
            ['DEL', keyOf(kid)],
            ['ZREM', layout.meta(`keys:${key.keyspace}`), kid],
            ['ZREM', expiring, kid],
          ]
          return { checks: [{ kind: 'is', key: keyOf(kid), text: found.text }], writes, result: key }
        },
        refuse,
      )
      if (deleted === undefined) return false
      await dropCopy(deleted.tokenHash)
      await endBucket(management, kid)
      await management.announce({ kind: 'gone', tokenHash: deleted.tokenHash, kid })
      return true
    },
  }

  function toExpiryWrite(key: StoredKeyJson): Write[] {
    const at = sweepAt(key)
    return [at === undefined ? ['ZREM', expiring, key.kid] : ['ZADD', expiring, at, key.kid]]
  }
}

/** With their buckets and the instants of their last use, read together. */
async function toStoredKeys(
  management: Management,
  keys: readonly StoredKeyJson[],
  keyspace: StoredKeyspace,
): Promise<StoredKey[]> {
  const { connection, layout, timeoutMs } = management
  const found = new Map<string, { bucket: string | null; used: string | null }>()
  const shards = Map.groupBy(keys, ({ kid }) => shardOf(kid))
  const readShard = async (shard: number, group: readonly StoredKeyJson[]) => {
    const kids = group.map(({ kid }) => kid)
    const [buckets, used] = await Promise.all([
      readMany(
        management,
        kids.map((kid) => layout.bucket(shard, kid)),
      ),
      connection.call(timeoutMs, 'HMGET', [layout.used(shard), ...kids]) as Promise<(string | null)[]>,
    ])
    for (const [index, kid] of kids.entries()) {
      found.set(kid, { bucket: buckets[index] ?? null, used: used[index] ?? null })
    }
  }
  await Promise.all([...shards].map(([shard, group]) => readShard(shard, group)))
  return keys.map((stored) => {
    const key = toKey(stored, keyspace)
    const { bucket = null, used = null } = found.get(key.kid) ?? {}
    const usedMs = management.stampOf(shardOf(key.kid), key.kid) ?? (used === null ? undefined : Number(used))
    return { key, bucket: parseBucket(bucket, key), lastUsedMs: usedMs }
  })
}

function toStored(wanted: NewKey, number: number, keyspace: StoredKeyspace): StoredKeyJson {
  const { expiresAt } = wanted
  return {
    number,
    kid: wanted.kid,
    ksid: wanted.ksid,
    keyspace: keyspace.number,
    createdAt: wanted.createdAtMs,
    expiresAt: expiresAt === undefined ? null : [expiresAt.text, expiresAt.ms],
    limit: toStoredLimit(wanted.ownLimit),
    limitAt: 0,
    tokenHash: wanted.tokenHash,
    version: 1,
  }
}
