import { beforeAll, describe, expect, it } from 'vitest'
import { createTenant, createTestKeyspace, type RpcClient, unique } from '../support/rpc-client.ts'

const TEN = { limit: 10, refill_rate: 1, refill_interval: 3_600_000 }

export function describeKeyspaces(root: () => RpcClient): void {
  let admin: RpcClient
  beforeAll(() => {
    admin = root()
  })
  const draft = (more: Record<string, unknown> = {}) => {
    const tag = unique()
    return { name: `keyspace ${tag}`, keys_prefix: `${tag}_`, ...more }
  }

  describe('keyspaces.create', () => {
    it('200: echoes what was asked for, under a new id', async () => {
      const wanted = draft({ ratelimit: TEN })
      const keyspace = await admin.ok('keyspaces.create', wanted)
      expect(keyspace).toEqual({ ksid: keyspace.ksid, ...wanted })
      expect(keyspace.ksid).toMatch(/^ks_[a-z]{22}$/)
      expect(await admin.ok('keyspaces.get', { ksid: keyspace.ksid })).toEqual(keyspace)
    })

    it('200: no limit where none is said, and require_expiration only where it is true', async () => {
      for (const ratelimit of [undefined, null, {}, { ...TEN, limit: 0 }]) {
        const wanted = draft()
        const keyspace = await admin.ok('keyspaces.create', {
          ...wanted,
          ratelimit,
          require_expiration: false,
        })
        expect(keyspace).toEqual({ ksid: keyspace.ksid, ...wanted })
      }
      const strict = await admin.ok('keyspaces.create', draft({ require_expiration: true }))
      expect(strict.require_expiration).toBe(true)
    })

    it('409: name and prefix are unique, each for itself', async () => {
      const wanted = draft()
      await admin.ok('keyspaces.create', wanted)
      for (const taken of [{ name: wanted.name }, { keys_prefix: wanted.keys_prefix }]) {
        const answer = await admin.call('keyspaces.create', draft(taken))
        expect(answer).toMatchObject({ status: 409, body: { error: 'keyspace already exists' } })
      }
    })

    it.each([
      [{ name: '' }, ['name']],
      [{ name: null }, ['name']],
      [{ name: 7 }, ['name']],
      [{ name: 'x'.repeat(257) }, ['name']],
      [{ name: 'a\nb' }, ['name']],
      [{ name: '\ud800' }, ['name']],
      [{ keys_prefix: '' }, ['keys_prefix']],
      [{ keys_prefix: 'x'.repeat(17) }, ['keys_prefix']],
      [{ keys_prefix: 'a b' }, ['keys_prefix']],
      [{ keys_prefix: 'ü' }, ['keys_prefix']],
      [{ require_expiration: 'yes' }, ['require_expiration']],
      [{ ratelimit: { limit: -1 } }, ['limit']],
    ])('400: %j', async (bad, invalid_fields) => {
      const answer = await admin.call('keyspaces.create', draft(bad))
      expect(answer).toMatchObject({ status: 400, body: { error: 'invalid payload', invalid_fields } })
    })

    it('200: names of 1 and 256 characters, prefixes of 1 and 16', async () => {
      const tag = unique()
      const long = await admin.ok('keyspaces.create', {
        name: '😀'.repeat(256 - tag.length) + tag,
        keys_prefix: tag.padEnd(16, '-'),
      })
      await admin.ok('keyspaces.delete', { ksid: long.ksid })
      const short = await admin.ok('keyspaces.create', { name: '1', keys_prefix: '-' })
      await admin.ok('keyspaces.delete', { ksid: short.ksid })
    })
  })

  describe('keyspaces.get', () => {
    it('404 and 400', async () => {
      const missing = await admin.call('keyspaces.get', { ksid: 'ks_none' })
      expect(missing).toMatchObject({ status: 404, body: { error: 'keyspace not found' } })
      const { status, body } = await admin.call('keyspaces.get', {})
      expect([status, body.invalid_fields]).toEqual([400, ['ksid']])
    })
  })

  describe('keyspaces.list', () => {
    it('200: by name; a service key sees what it may read, an admin sees all', async () => {
      const tag = unique()
      const ksids: Record<string, string> = {}
      for (const letter of ['b', 'a', 'd', 'c']) {
        const { ksid } = await admin.ok('keyspaces.create', {
          name: `${tag} ${letter}`,
          keys_prefix: tag + letter,
        })
        ksids[letter] = ksid
      }
      const { a = '', b = '', c = '', d = '' } = ksids
      const reader = await createTenant(admin, {
        [b]: { read: true, write: true },
        [a]: { read: true },
        [c]: { write: true },
        [d]: {},
      })
      const names = async (client: RpcClient, list?: unknown) => {
        const answer = await client.ok('keyspaces.list', { list })
        return { list: answer.list, names: answer.keyspaces.map(({ name }: { name: string }) => name) }
      }
      expect(await names(reader)).toEqual({
        list: { page: 1, limit: 10, last_page: 1 },
        names: [`${tag} a`, `${tag} b`],
      })
      expect(await names(reader, { page: 2, limit: 1 })).toEqual({
        list: { page: 2, limit: 1, last_page: 2 },
        names: [`${tag} b`],
      })
      expect((await names(await createTenant(admin, {}))).names).toEqual([])
      const all = await createTenant(admin, { '*': { read: true } })
      const { last_page } = (await names(all, { limit: 100 })).list
      expect((await names(admin, { limit: 100 })).list.last_page).toBe(last_page)
      const shown: string[] = []
      for (let page = 1; page <= last_page; page++)
        shown.push(...(await names(all, { page, limit: 100 })).names)
      expect(shown.filter((name) => name.startsWith(`${tag} `))).toEqual(
        ['a', 'b', 'c', 'd'].map((l) => `${tag} ${l}`),
      )
    })

    it('400: page and limit', async () => {
      const answer = await admin.call('keyspaces.list', { list: { page: -1, limit: 101 } })
      expect(answer).toMatchObject({ status: 400, body: { invalid_fields: ['page', 'limit'] } })
    })
  })

  describe('keyspaces.delete', () => {
    it('200 null: takes its keys and policies along, and frees name and prefix', async () => {
      const wanted = draft()
      const { ksid } = await admin.ok('keyspaces.create', wanted)
      const tenant = await createTenant(admin, { [ksid]: { read: true } })
      const { token, kid } = await tenant.as(admin.token).ok('keys.create', { ksid })
      const answer = await admin.call('keyspaces.delete', { ksid })
      expect([answer.status, answer.text]).toEqual([200, 'null'])
      expect((await admin.call('keys.check', { ksid, token })).status).toBe(404)
      expect((await admin.call('keys.get', { ksid, kid })).status).toBe(404)
      expect((await admin.call('keys.list', { ksid })).body.error).toBe('keyspace not found')
      expect((await tenant.ok('serviceKeys.current')).keyspaces_policies).toEqual({})
      expect((await admin.call('keyspaces.delete', { ksid })).body).toEqual({ error: 'keyspace not found' })
      const reborn = await admin.ok('keyspaces.create', wanted)
      expect(reborn.ksid).not.toBe(ksid)
      expect((await admin.call('keys.check', { ksid: reborn.ksid, token })).status).toBe(404)
    })
  })

  describe('keyspaces.update', () => {
    it('200: changes what is given, and a changed limit holds for the keys that inherit it', async () => {
      const wanted = draft({ ratelimit: TEN })
      const { ksid } = await admin.ok('keyspaces.create', wanted)
      const inheriting = await admin.ok('keys.create', { ksid })
      const own = await admin.ok('keys.create', { ksid, ratelimit: { ...TEN, limit: 4 } })
      for (let i = 0; i < 3; i++) await admin.ok('keys.check', { ksid, token: inheriting.token })
      expect(await admin.ok('keyspaces.update', { ksid, name: '', keys_prefix: null })).toEqual({
        ksid,
        ...wanted,
      })
      const changed = await admin.ok('keyspaces.update', { ksid, ratelimit: { ...TEN, limit: 4 } })
      expect(changed).toEqual({ ksid, ...wanted, ratelimit: { ...TEN, limit: 4 } })
      const checked = await admin.ok('keys.check', { ksid, token: inheriting.token })
      expect(checked.ratelimit).toMatchObject({ limit: 4, state: { remaining: 0 } })
      expect((await admin.call('keys.check', { ksid, token: inheriting.token })).status).toBe(429)
      expect(
        (await admin.ok('keyspaces.update', { ksid, ratelimit: { limit: 0 } })).ratelimit,
      ).toBeUndefined()
      expect((await admin.call('keys.check', { ksid, token: inheriting.token })).status).toBe(200)
      expect((await admin.ok('keys.get', { ksid, kid: own.kid })).ratelimit.limit).toBe(4)
    })

    it('200: a new prefix is that of new tokens; old ones go on', async () => {
      const ksid = await createTestKeyspace(admin)
      const old = await admin.ok('keys.create', { ksid })
      const { name, keys_prefix } = draft()
      const updated = await admin.ok('keyspaces.update', {
        ksid,
        name,
        keys_prefix,
        require_expiration: true,
      })
      expect(updated).toEqual({ ksid, name, keys_prefix, require_expiration: true })
      expect((await admin.call('keys.create', { ksid })).status).toBe(460)
      const fresh = await admin.ok('keys.create', { ksid, expires_in: 60_000 })
      expect(fresh.token.startsWith(keys_prefix)).toBe(true)
      await admin.ok('keys.check', { ksid, token: old.token })
    })

    it('400, 404 and 409', async () => {
      const taken = draft()
      await admin.ok('keyspaces.create', taken)
      const ksid = await createTestKeyspace(admin)
      for (const change of [{ name: taken.name }, { keys_prefix: taken.keys_prefix }]) {
        const answer = await admin.call('keyspaces.update', { ksid, ...change })
        expect(answer).toMatchObject({ status: 409, body: { error: 'keyspace already exists' } })
      }
      const bad = await admin.call('keyspaces.update', { ksid, keys_prefix: 'a b', name: 5 })
      expect(bad).toMatchObject({ status: 400, body: { invalid_fields: ['name', 'keys_prefix'] } })
      expect(bad.body.details[1]).toContain('1 to 16')
      const missing = await admin.call('keyspaces.update', { ksid: 'ks_none', name: 'x' })
      expect(missing).toMatchObject({ status: 404, body: { error: 'keyspace not found' } })
    })
  })
}
