import { RpcError } from '../../domain/errors.ts'
import type { ServiceKey } from '../../domain/service-key.ts'
import type { KeyStore } from '../../ports/stores.ts'
import { change, type Management, nextNumber, readList, readMany, readText } from './management.ts'
import { parseStored, type StoredServiceKey, toServiceKey } from './records.ts'
import type { Check, Write } from './transaction.ts'

type ServiceKeyTable = Pick<
  KeyStore,
  | 'createServiceKey'
  | 'findServiceKey'
  | 'findServiceKeyByToken'
  | 'listServiceKeys'
  | 'updateServiceKey'
  | 'setServiceKeyToken'
  | 'deleteServiceKey'
>

const refuse = ({ kind }: Check) =>
  new RpcError(kind === 'present' ? 'keyspace_not_found' : 'service_key_exists')
const keyOf = ({ layout }: Management, skid: string) => layout.meta(`service:${skid}`)

/** Service keys are never cached: every request to the admin listener asks for its own. */
export function createServiceKeyTable(management: Management): ServiceKeyTable {
  const { connection, layout, timeoutMs } = management
  const [all, tokens] = [layout.meta('services'), layout.meta('service-tokens')]
  const nameOf = (skid: string) => keyOf(management, skid)

  async function find(skid: string): Promise<ServiceKey | undefined> {
    const stored = parseStored<StoredServiceKey>(await readText(management, nameOf(skid)))
    return stored && toServiceKey(stored)
  }

  return {
    findServiceKey: find,

    async createServiceKey(serviceKey, tokenHash) {
      const number = await nextNumber(management)
      const { skid } = serviceKey
      const checks: Check[] = [
        { kind: 'absent', key: nameOf(skid) },
        { kind: 'free', key: tokens, field: tokenHash },
        ...toPolicyChecks(management, serviceKey.policies.keys()),
      ]
      const writes: Write[] = [
        ['SET', nameOf(skid), JSON.stringify(toStored(serviceKey, tokenHash))],
        ['ZADD', all, number, skid],
        ['HSET', tokens, tokenHash, skid],
      ]
      await change(management, async () => ({ checks, writes, result: true }), refuse)
    },

    async findServiceKeyByToken(tokenHash) {
      const skid = await connection.call(timeoutMs, 'HGET', [tokens, tokenHash])
      return typeof skid === 'string' ? find(skid) : undefined
    },

    async listServiceKeys(page) {
      const { members, total } = await readList(management, 'ZRANGE', all, page)
      const texts = await readMany(management, members.map(nameOf))
      const stored = texts
        .map((text) => parseStored<StoredServiceKey>(text))
        .filter((one) => one !== undefined)
      return { items: stored.map(toServiceKey), total }
    },

    async updateServiceKey(skid, wanted) {
      return update(management, skid, (before) => ({
        ...before,
        description: wanted.description ?? before.description,
        admin: wanted.admin ?? before.admin,
        policies: wanted.policies === undefined ? before.policies : [...wanted.policies],
        roles: wanted.roles ?? before.roles,
      }))
    },

    async setServiceKeyToken(skid, tokenHash) {
      const changed = await change(
        management,
        async () => {
          const text = await readText(management, nameOf(skid))
          const before = parseStored<StoredServiceKey>(text)
          if (text === undefined || before === undefined) return undefined
          const checks: Check[] = [{ kind: 'is', key: nameOf(skid), text }]
          if (before.tokenHash !== tokenHash) checks.push({ kind: 'free', key: tokens, field: tokenHash })
          const writes: Write[] = [
            ['SET', nameOf(skid), JSON.stringify({ ...before, tokenHash })],
            ['HDEL', tokens, before.tokenHash],
            ['HSET', tokens, tokenHash, skid],
          ]
          return { checks, writes, result: true }
        },
        refuse,
      )
      return changed === true
    },

    async deleteServiceKey(skid) {
      const deleted = await change(
        management,
        async () => {
          const text = await readText(management, nameOf(skid))
          const before = parseStored<StoredServiceKey>(text)
          if (text === undefined || before === undefined) return undefined
          const writes: Write[] = [
            // The empty text keeps the id taken.
            ['SET', nameOf(skid), ''],
            ['ZREM', all, skid],
            ['HDEL', tokens, before.tokenHash],
          ]
          return { checks: [{ kind: 'is', key: nameOf(skid), text }], writes, result: true }
        },
        refuse,
      )
      return deleted === true
    },
  }
}

/** After the delete of a keyspace: nobody's policies name it any more. */
export async function removePolicies(management: Management, ksid: string): Promise<void> {
  const { connection, layout, timeoutMs } = management
  const skids = (await connection.call(timeoutMs, 'ZRANGE', [layout.meta('services'), 0, -1])) as string[]
  const texts = await readMany(
    management,
    skids.map((skid) => keyOf(management, skid)),
  )
  for (const [index, skid] of skids.entries()) {
    const stored = parseStored<StoredServiceKey>(texts[index])
    if (!stored?.policies.some(([name]) => name === ksid)) continue
    const withoutIt = (before: StoredServiceKey) => ({
      ...before,
      policies: before.policies.filter(([name]) => name !== ksid),
    })
    await update(management, skid, withoutIt)
  }
}

async function update(
  management: Management,
  skid: string,
  edit: (before: StoredServiceKey) => StoredServiceKey,
): Promise<ServiceKey | undefined> {
  const key = keyOf(management, skid)
  const after = await change(
    management,
    async () => {
      const text = await readText(management, key)
      const before = parseStored<StoredServiceKey>(text)
      if (text === undefined || before === undefined) return undefined
      const result = edit(before)
      const named = result.policies === before.policies ? [] : result.policies.map(([ksid]) => ksid)
      const checks: Check[] = [{ kind: 'is', key, text }, ...toPolicyChecks(management, named)]
      const writes: Write[] = [['SET', key, JSON.stringify(result)]]
      return { checks, writes, result }
    },
    refuse,
  )
  return after && toServiceKey(after)
}

function toPolicyChecks({ layout }: Management, ksids: Iterable<string>): Check[] {
  return [...ksids]
    .filter((ksid) => ksid !== '*')
    .map((ksid) => ({ kind: 'present', key: layout.meta(`keyspace:${ksid}`) }))
}

function toStored(serviceKey: ServiceKey, tokenHash: string): StoredServiceKey {
  const { skid, description, admin, policies, roles, createdAtMs } = serviceKey
  return { skid, description, admin, policies: [...policies], roles, createdAt: createdAtMs, tokenHash }
}
