import { beforeAll, describe, expect, it } from 'vitest'
import { createTenant, createTestKeyspace, type RpcClient, send, unique } from '../support/rpc-client.ts'

const NO_SKID = `sk_${'z'.repeat(22)}`

export function describeServiceKeys(root: () => RpcClient): void {
  let admin: RpcClient
  let ksid: string
  beforeAll(async () => {
    ksid = await createTestKeyspace(root())
    const { token } = await root().ok('serviceKeys.create', { admin: true })
    admin = root().as(token)
  })
  const freshToken = () => `token of ${unique()}`.padEnd(24, '!').replaceAll(' ', '_')

  describe('serviceKeys.create', () => {
    it('200: shows the token once and says what was asked for', async () => {
      const keyspaces_policies = { [ksid]: { read: true, write: false }, '*': { read: true, write: true } }
      const wanted = { description: 'about it', admin: false, keyspaces_policies, roles: ['SCRIPT'] }
      const created = await admin.ok('serviceKeys.create', { skid: '', ...wanted })
      const { skid, token, created_at } = created
      expect(created).toEqual({ skid, token, created_at, ...wanted })
      expect(skid).toMatch(/^sk_[a-z]{22}$/)
      expect(token).toMatch(/^sk_[A-Za-z0-9_-]{43}$/)
      expect(Math.abs(Date.parse(created_at) - Date.now())).toBeLessThan(5_000)
      const { token: _token, ...shown } = created
      expect(await admin.as(token).ok('serviceKeys.current')).toEqual(shown)
      for (const by of [{ skid }, { token }, { skid, token: admin.token }, { skid: '', token }]) {
        expect(await admin.ok('serviceKeys.get', by)).toEqual(shown)
      }
    })

    it('200: everything is optional, null is absent, missing permissions are denied', async () => {
      const nulls = { skid: null, description: null, admin: null, keyspaces_policies: null, roles: null }
      for (const params of [{}, nulls]) {
        expect(await admin.ok('serviceKeys.create', params)).toMatchObject({
          description: '',
          admin: false,
          keyspaces_policies: {},
          roles: [],
        })
      }
      const { keyspaces_policies } = await admin.ok('serviceKeys.create', {
        keyspaces_policies: { [ksid]: {} },
      })
      expect(keyspaces_policies).toEqual({ [ksid]: { read: false, write: false } })
      const { roles } = await admin.ok('serviceKeys.create', { roles: ['SCRIPT', 'SCRIPT'] })
      expect(roles).toEqual(['SCRIPT'])
    })

    it('409: a chosen skid is good once, even after a delete; sk_root is never free', async () => {
      const skid = `sk_${unique()}-_A9`
      expect((await admin.ok('serviceKeys.create', { skid })).skid).toBe(skid)
      const taken = { status: 409, body: { error: 'service key already exists' } }
      expect(await admin.call('serviceKeys.create', { skid })).toMatchObject(taken)
      await admin.ok('serviceKeys.delete', { skid })
      expect(await admin.call('serviceKeys.create', { skid })).toMatchObject(taken)
      expect(await admin.call('serviceKeys.create', { skid: 'sk_root' })).toMatchObject(taken)
    })

    it('404: a policy for a keyspace that is not there creates nothing', async () => {
      const skid = `sk_${unique()}`
      const keyspaces_policies = { [ksid]: { read: true }, ks_none: { read: true } }
      const answer = await admin.call('serviceKeys.create', { skid, keyspaces_policies })
      expect(answer).toMatchObject({ status: 404, body: { error: 'keyspace not found' } })
      expect((await admin.call('serviceKeys.get', { skid })).status).toBe(404)
      await admin.ok('serviceKeys.create', { skid })
    })

    it.each([
      [{ skid: 'root' }, ['skid']],
      [{ skid: 'sk_' }, ['skid']],
      [{ skid: `sk_${'x'.repeat(65)}` }, ['skid']],
      [{ skid: 'sk_a b' }, ['skid']],
      [{ skid: 5 }, ['skid']],
      [{ description: 5 }, ['description']],
      [{ description: 'x'.repeat(1025) }, ['description']],
      [{ admin: 'yes' }, ['admin']],
      [{ admin: 1 }, ['admin']],
      [{ keyspaces_policies: [] }, ['keyspaces_policies']],
      [{ keyspaces_policies: 'all' }, ['keyspaces_policies']],
      [{ keyspaces_policies: { ks_a: true } }, ['keyspaces_policies']],
      [{ keyspaces_policies: { ks_a: { read: 1, write: 'no' } } }, ['read', 'write']],
      [{ keyspaces_policies: { read: 7 } }, ['keyspaces_policies']],
      [{ roles: 'SCRIPT' }, ['roles']],
      [{ roles: ['script'] }, ['roles']],
      [{ roles: ['SCRIPT', 5] }, ['roles']],
      [{ roles: Array.from({ length: 17 }, (_, i) => 'A'.repeat(i + 1)) }, ['roles']],
    ])('400: %j', async (bad, invalid_fields) => {
      const answer = await admin.call('serviceKeys.create', bad)
      expect(answer).toMatchObject({ status: 400, body: { error: 'invalid payload', invalid_fields } })
    })
  })

  describe('serviceKeys.current', () => {
    it('200: needs no body and no content type, and never looks at a body', async () => {
      const headers = { authorization: `Bearer ${admin.token}` }
      for (const options of [
        { headers },
        { headers, body: '{not json' },
        { headers: { ...headers, 'content-type': 'application/x-www-form-urlencoded' }, body: 'a=b' },
        { headers: { ...headers, 'content-type': 'application/json' }, body: 'null' },
      ]) {
        const { status, text } = await send(admin.origin, '/v1/serviceKeys.current', options)
        expect(status).toBe(200)
        expect(JSON.parse(text)).toMatchObject({ admin: true })
      }
    })

    it('200: the root token acts for sk_root, which is in no list', async () => {
      const me = await root().ok('serviceKeys.current')
      expect(me).toEqual({
        skid: 'sk_root',
        description: 'root token of the configuration',
        admin: true,
        keyspaces_policies: {},
        roles: [],
      })
      expect(await root().ok('serviceKeys.get', { skid: 'sk_root' })).toEqual(me)
      expect(await root().ok('serviceKeys.get', { token: root().token })).toEqual(me)
    })
  })

  describe('serviceKeys.get', () => {
    it('200: a service key may read itself by id and by token', async () => {
      const tenant = await createTenant(admin, {})
      const me = await tenant.ok('serviceKeys.current')
      for (const by of [{ skid: me.skid }, { token: tenant.token }, { skid: me.skid, token: 'else' }]) {
        expect(await tenant.ok('serviceKeys.get', by)).toEqual(me)
      }
    })

    it('401: anything else in the same words, whether it is there or not', async () => {
      const tenant = await createTenant(admin, { '*': { read: true, write: true } })
      const other = await createTenant(admin, {})
      for (const by of [
        { skid: other.skid },
        { skid: NO_SKID },
        { skid: 'sk_root' },
        { token: other.token },
        { token: admin.token },
        { token: 'nonsense' },
        { skid: other.skid, token: tenant.token },
      ]) {
        const { status, text } = await tenant.call('serviceKeys.get', by)
        expect([status, text]).toEqual([401, '{"error":"unauthorized"}'])
      }
    })

    it('400: neither skid nor token; 404: unknown', async () => {
      for (const none of [{}, { skid: '', token: null }]) {
        const { status, body } = await admin.call('serviceKeys.get', none)
        expect([status, body.invalid_fields]).toEqual([400, ['skid', 'token']])
      }
      for (const by of [{ skid: NO_SKID }, { token: 'nonsense' }]) {
        const { status, body } = await admin.call('serviceKeys.get', by)
        expect([status, body]).toEqual([404, { error: 'service key not found' }])
      }
    })
  })

  describe('serviceKeys.list', () => {
    it('200: oldest first, with policies, without tokens and without sk_root', async () => {
      const skids: string[] = []
      for (let i = 0; i < 3; i++) skids.push((await createTenant(admin, { [ksid]: { read: true } })).skid)
      const { list } = await admin.ok('serviceKeys.list', { list: { limit: 100 } })
      const all = []
      for (let page = 1; page <= list.last_page; page++) {
        all.push(...(await admin.ok('serviceKeys.list', { list: { page, limit: 100 } })).service_keys)
      }
      expect(all.slice(-3).map(({ skid }) => skid)).toEqual(skids)
      expect(all.at(-1).keyspaces_policies).toEqual({ [ksid]: { read: true, write: false } })
      expect(all.some((one) => 'token' in one || one.skid === 'sk_root')).toBe(false)
      const past = await admin.ok('serviceKeys.list', { list: { page: 10_000 } })
      expect(past.service_keys).toEqual([])
    })

    it('400: page and limit', async () => {
      const answer = await admin.call('serviceKeys.list', { list: { page: 1.5, limit: -1 } })
      expect(answer).toMatchObject({ status: 400, body: { invalid_fields: ['page', 'limit'] } })
    })
  })

  describe('serviceKeys.delete', () => {
    it('200 null: and the token is refused from the answer on', async () => {
      const tenant = await createTenant(admin, {})
      const { status, text } = await admin.call('serviceKeys.delete', { skid: tenant.skid })
      expect([status, text]).toEqual([200, 'null'])
      expect((await tenant.call('serviceKeys.current')).status).toBe(401)
      const again = await admin.call('serviceKeys.delete', { skid: tenant.skid })
      expect(again).toMatchObject({ status: 404, body: { error: 'service key not found' } })
    })

    it('403: nobody can delete itself, and that is tested before admin', async () => {
      const tenant = await createTenant(admin, {})
      const { skid } = await admin.ok('serviceKeys.current')
      const forbidden = { status: 403, body: { error: 'cannot delete itself' } }
      expect(await tenant.call('serviceKeys.delete', { skid: tenant.skid })).toMatchObject(forbidden)
      expect(await admin.call('serviceKeys.delete', { skid })).toMatchObject(forbidden)
      expect(await root().call('serviceKeys.delete', { skid: 'sk_root' })).toMatchObject(forbidden)
      expect((await tenant.call('serviceKeys.delete', { skid })).status).toBe(401)
      expect((await admin.call('serviceKeys.delete', { skid: 'sk_root' })).status).toBe(404)
      expect((await admin.call('serviceKeys.delete', {})).body.invalid_fields).toEqual(['skid'])
    })
  })

  describe('serviceKeys.set_token', () => {
    it('200 null: the new token works and the old one is dead at the answer', async () => {
      const tenant = await createTenant(admin, {})
      for (const setter of [tenant, admin]) {
        const before = (await admin.ok('serviceKeys.get', { skid: tenant.skid })).skid
        const token = freshToken()
        const answer = await setter.call('serviceKeys.set_token', { skid: before, token })
        expect([answer.status, answer.text]).toEqual([200, 'null'])
        expect((await tenant.call('serviceKeys.current')).status).toBe(401)
        expect((await tenant.as(token).ok('serviceKeys.current')).skid).toBe(tenant.skid)
      }
    })

    it('200: 16 and 256 visible ASCII characters, with any prefix', async () => {
      const tenant = await createTenant(admin, {})
      const visible = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i)).join('')
      for (const token of [visible, unique().padEnd(16, '~'), unique().padEnd(256, '"')]) {
        await admin.ok('serviceKeys.set_token', { skid: tenant.skid, token })
        expect((await tenant.as(token).ok('serviceKeys.current')).skid).toBe(tenant.skid)
      }
    })

    it('400: too short, too long, or characters that are not visible ASCII', async () => {
      const { skid } = await createTenant(admin, {})
      for (const token of [
        undefined,
        '',
        null,
        'x'.repeat(15),
        'x'.repeat(257),
        'with a space in it',
        `${'x'.repeat(20)}\n`,
        `${'x'.repeat(20)}ü`,
        5,
      ]) {
        const answer = await admin.call('serviceKeys.set_token', { skid, token })
        expect(answer).toMatchObject({
          status: 400,
          body: { error: 'invalid payload', invalid_fields: ['token'] },
        })
      }
      expect(
        (await admin.call('serviceKeys.set_token', { token: freshToken() })).body.invalid_fields,
      ).toEqual(['skid'])
    })

    it('409: a token in use, be it the root token', async () => {
      const [a, b] = [await createTenant(admin, {}), await createTenant(admin, {})]
      const token = freshToken()
      await admin.ok('serviceKeys.set_token', { skid: a.skid, token })
      for (const taken of [token, b.token, root().token]) {
        const skid = taken === b.token ? a.skid : b.skid
        const answer = await admin.call('serviceKeys.set_token', { skid, token: taken })
        expect(answer).toMatchObject({ status: 409, body: { error: 'service key already exists' } })
      }
      expect((await b.ok('serviceKeys.current')).skid).toBe(b.skid)
      expect((await root().ok('serviceKeys.current')).skid).toBe('sk_root')
    })

    it('401: for another without admin; 404: unknown, deleted and root', async () => {
      const [tenant, other] = [await createTenant(admin, {}), await createTenant(admin, {})]
      for (const skid of [other.skid, NO_SKID, 'sk_root']) {
        const refused = await tenant.call('serviceKeys.set_token', { skid, token: freshToken() })
        expect([refused.status, refused.text]).toEqual([401, '{"error":"unauthorized"}'])
      }
      await admin.ok('serviceKeys.delete', { skid: other.skid })
      for (const skid of [other.skid, NO_SKID, 'sk_root']) {
        const answer = await admin.call('serviceKeys.set_token', { skid, token: freshToken() })
        expect(answer).toMatchObject({ status: 404, body: { error: 'service key not found' } })
      }
    })
  })

  describe('serviceKeys.update', () => {
    it('200: changes what is given, and the change holds at the answer', async () => {
      const tenant = await createTenant(admin, { [ksid]: { read: true } }, { description: 'before' })
      const { skid } = tenant
      const before = await tenant.ok('serviceKeys.current')
      expect(await admin.ok('serviceKeys.update', { skid })).toEqual(before)
      const nulls = { description: null, admin: null, keyspaces_policies: null, roles: null }
      expect(await admin.ok('serviceKeys.update', { skid, ...nulls })).toEqual(before)
      const changed = await admin.ok('serviceKeys.update', {
        skid,
        description: '',
        keyspaces_policies: { [ksid]: { write: true } },
        roles: ['SCRIPT'],
      })
      expect(changed).toEqual({
        ...before,
        description: '',
        keyspaces_policies: { [ksid]: { read: false, write: true } },
        roles: ['SCRIPT'],
      })
      expect((await tenant.call('keys.list', { ksid })).status).toBe(401)
      await tenant.ok('keys.create', { ksid })
      await admin.ok('serviceKeys.update', { skid, keyspaces_policies: {}, roles: [], admin: true })
      await tenant.ok('serviceKeys.list')
      await admin.ok('serviceKeys.update', { skid, admin: false })
      expect((await tenant.call('serviceKeys.list')).status).toBe(401)
    })

    it('400 and 404, changing nothing', async () => {
      const tenant = await createTenant(admin, { [ksid]: { read: true } })
      const { skid } = tenant
      const before = await tenant.ok('serviceKeys.current')
      const bad = await admin.call('serviceKeys.update', { skid, roles: ['x'], admin: 'no' })
      expect(bad).toMatchObject({ status: 400, body: { invalid_fields: ['admin', 'roles'] } })
      const dangling = { skid, description: 'x', keyspaces_policies: { ks_none: { read: true } } }
      const missing = await admin.call('serviceKeys.update', dangling)
      expect(missing).toMatchObject({ status: 404, body: { error: 'keyspace not found' } })
      expect(await tenant.ok('serviceKeys.current')).toEqual(before)
      for (const unknown of [NO_SKID, 'sk_root']) {
        const answer = await admin.call('serviceKeys.update', { skid: unknown, description: 'x' })
        expect(answer).toMatchObject({ status: 404, body: { error: 'service key not found' } })
      }
    })
  })
}
