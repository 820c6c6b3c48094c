import { sameLimit } from '../../domain/bucket.ts'
import { RpcError } from '../../domain/errors.ts'
import type { Keyspace } from '../../domain/key.ts'
import type { KeyStore, PageRequest } from '../../ports/stores.ts'
import { convertBuckets } from './bucket-changes.ts'
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
import { parseStored, type StoredKeyspace, toKeyspace, toLimit, toStoredLimit } from './records.ts'
import { removePolicies } from './service-key-table.ts'
import type { Check, Write } from './transaction.ts'

type KeyspaceTable = Pick<
  KeyStore,
  'createKeyspace' | 'findKeyspace' | 'listKeyspaces' | 'updateKeyspace' | 'deleteKeyspace'
>

const refuse = () => new RpcError('keyspace_exists')

export function createKeyspaceTable(management: Management): KeyspaceTable {
  const { layout } = management
  const keyOf = (ksid: string) => layout.meta(`keyspace:${ksid}`)
  const [all, names, prefixes] = [layout.meta('keyspaces'), layout.meta('names'), layout.meta('prefixes')]
  const find = (ksid: string) => readJson<StoredKeyspace>(management, keyOf(ksid))

  return {
    async createKeyspace(keyspace) {
      const stored = toStored(keyspace, await nextNumber(management), await nextInstant(management))
      const { ksid, name, prefix } = stored
      const checks: Check[] = [
        { kind: 'absent', key: keyOf(ksid) },
        { kind: 'free', key: names, field: name },
        { kind: 'free', key: prefixes, field: prefix },
      ]
      const writes: Write[] = [
        ['SET', keyOf(ksid), JSON.stringify(stored)],
        ['ZADD', all, 0, toMember(stored)],
        ['HSET', names, name, ksid],
        ['HSET', prefixes, prefix, ksid],
      ]
      await change(management, async () => ({ checks, writes, result: true }), refuse)
      await management.announce({ kind: 'keyspace', ksid })
    },

    async findKeyspace(ksid) {
      const stored = await find(ksid)
      return stored && toKeyspace(stored)
    },

    async listKeyspaces(page, visible) {
      if (visible !== undefined) return listVisible(page, visible)
      const { members, total } = await readList(management, 'ZRANGE', all, page)
      const texts = await readMany(
        management,
        members.map((member) => keyOf(member.slice(member.indexOf('\0') + 1))),
      )
      return { items: parseAll(texts).map(toKeyspace), total }
    },

    async updateKeyspace(ksid, wanted) {
      const changed = await change(
        management,
        async () => {
          const text = await readText(management, keyOf(ksid))
          const before = parseStored<StoredKeyspace>(text)
          if (text === undefined || before === undefined) return undefined
          const limit = wanted.limit === undefined ? toLimit(before.limit) : (wanted.limit ?? undefined)
          const isLimitChanged = !sameLimit(limit, toLimit(before.limit))
          const after: StoredKeyspace = {
            ...before,
            name: wanted.name ?? before.name,
            prefix: wanted.keysPrefix ?? before.prefix,
            requireExpiration: wanted.requireExpiration ?? before.requireExpiration,
            limit: toStoredLimit(limit),
            limitAt: isLimitChanged ? await nextInstant(management) : before.limitAt,
          }
          const checks: Check[] = [{ kind: 'is', key: keyOf(ksid), text }]
          const writes: Write[] = [['SET', keyOf(ksid), JSON.stringify(after)]]
          if (after.name !== before.name) {
            checks.push({ kind: 'free', key: names, field: after.name })
            writes.push(['HDEL', names, before.name], ['HSET', names, after.name, ksid])
            writes.push(['ZREM', all, toMember(before)], ['ZADD', all, 0, toMember(after)])
          }
          if (after.prefix !== before.prefix) {
            checks.push({ kind: 'free', key: prefixes, field: after.prefix })
            writes.push(['HDEL', prefixes, before.prefix], ['HSET', prefixes, after.prefix, ksid])
          }
          return { checks, writes, result: { before, after, isLimitChanged } }
        },
        refuse,
      )
      if (changed === undefined) return undefined
      await management.announce({ kind: 'keyspace', ksid })
      if (changed.isLimitChanged) await convertBuckets(management, changed.before, changed.after)
      return toKeyspace(changed.after)
    },

    async deleteKeyspace(ksid) {
      const deleted = await change(
        management,
        async () => {
          const text = await readText(management, keyOf(ksid))
          const stored = parseStored<StoredKeyspace>(text)
          if (text === undefined || stored === undefined) return undefined
          const writes: Write[] = [
            ['DEL', keyOf(ksid)],
            ['ZREM', all, toMember(stored)],
            ['HDEL', names, stored.name],
            ['HDEL', prefixes, stored.prefix],
            ['RPUSH', layout.meta('dead'), stored.number],
          ]
          return { checks: [{ kind: 'is', key: keyOf(ksid), text }], writes, result: true }
        },
        refuse,
      )
      if (deleted === undefined) return false
      await management.announce({ kind: 'keyspace', ksid })
      await removePolicies(management, ksid)
      return true
    },
  }

  async function listVisible({ page, limit }: PageRequest, visible: ReadonlySet<string>) {
    const found = parseAll(await readMany(management, [...visible].map(keyOf)))
    const sorted = found.toSorted((a, b) =>
      Buffer.compare(Buffer.from(toMember(a)), Buffer.from(toMember(b))),
    )
    const start = (page - 1) * limit
    return { items: sorted.slice(start, start + limit).map(toKeyspace), total: sorted.length }
  }
}

function parseAll(texts: readonly (string | null)[]): StoredKeyspace[] {
  return texts.map((text) => parseStored<StoredKeyspace>(text)).filter((stored) => stored !== undefined)
}

function toMember({ name, ksid }: StoredKeyspace): string {
  return `${name}\0${ksid}`
}

function toStored(keyspace: Keyspace, number: number, limitAt: number): StoredKeyspace {
  return {
    number,
    ksid: keyspace.ksid,
    name: keyspace.name,
    prefix: keyspace.keysPrefix,
    limit: toStoredLimit(keyspace.limit),
    limitAt,
    requireExpiration: keyspace.requireExpiration,
    createdAt: keyspace.createdAtMs,
  }
}
