import { beforeAll, describe, expect, it } from 'vitest'
import { PROCEDURES } from '../../src/control-plane/procedure-table.ts'
import { createTenant, createTestKeyspace, type RpcClient, send, unique } from '../support/rpc-client.ts'

const NO_KID = `k_${'z'.repeat(22)}`
const NO_SKID = `sk_${'z'.repeat(22)}`

export function describeProtocol(root: () => RpcClient): void {
  let admin: RpcClient
  let ksid: string
  beforeAll(async () => {
    admin = root()
    ksid = await createTestKeyspace(admin)
  })

  describe('the order of a call', () => {
    const path = '/v1/keys.get'
    const json = { 'content-type': 'application/json' }
    const bearer = () => ({ authorization: `Bearer ${admin.token}` })

    it('looks at path and method first: 404 and 405 with Allow, asked for no token', async () => {
      for (const unknown of [
        '/v1/keys.nope',
        '/v1/',
        '/v1',
        '/v1/keys.get/',
        '/v1//keys.get',
        '/V1/keys.get',
        '/nope',
      ]) {
        for (const method of ['POST', 'GET', 'DELETE']) {
          const { status, text } = await send(admin.origin, unknown, { method })
          expect([status, text]).toEqual([404, '{"error":"not found"}'])
        }
      }
      for (const { name } of PROCEDURES) {
        for (const method of ['GET', 'PUT', 'OPTIONS', 'DELETE', 'PATCH']) {
          const { status, headers, text } = await send(admin.origin, `/v1/${name}`, { method })
          expect([status, headers.allow, text]).toEqual([405, 'POST', '{"error":"method not allowed"}'])
        }
        expect((await send(admin.origin, `/v1/${name}`, { method: 'HEAD' })).status).toBe(405)
      }
      for (const method of ['__proto__', 'constructor', 'toString']) {
        expect((await send(admin.origin, `/v1/${method}`)).status).toBe(404)
      }
    })

    it('then at the token, before the body', async () => {
      for (const authorization of [
        undefined,
        '',
        'Bearer',
        'Bearer ',
        'Bearer wrong',
        'wrong',
        'Basic cm9vdDo=',
      ]) {
        const headers = authorization === undefined ? {} : { authorization }
        for (const options of [{ headers }, { headers: { ...headers, ...json }, body: '{' }]) {
          const answer = await send(admin.origin, path, options)
          expect([answer.status, answer.text]).toEqual([401, '{"error":"unauthorized"}'])
          expect(answer.headers['www-authenticate']).toBe('Bearer')
        }
      }
    })

    it('then at the content type: 422', async () => {
      for (const type of [
        undefined,
        'text/plain',
        'application/x-www-form-urlencoded',
        'application/jsonx',
        'json',
      ]) {
        const headers = { ...bearer(), ...(type === undefined ? {} : { 'content-type': type }) }
        const { status, text } = await send(admin.origin, path, { headers, body: '{' })
        expect(status).toBe(422)
        expect(JSON.parse(text).error).toMatch(/^unprocessable entity/)
      }
    })

    it('then parses: 400 invalid json, which quotes nothing', async () => {
      for (const body of [
        '{',
        'nonsense',
        '{"ksid":}',
        "{'a':1}",
        '{"a":1}}',
        Buffer.from([0x22, 0xff, 0x22]),
      ]) {
        const { status, text } = await send(admin.origin, path, { headers: { ...bearer(), ...json }, body })
        expect([status, JSON.parse(text).error]).toEqual([400, 'invalid json'])
        expect(JSON.parse(text)).not.toHaveProperty('invalid_fields')
        expect(text).not.toContain('nonsense')
      }
    })

    it('then validates: 400 invalid payload, before it is said who may', async () => {
      const stranger = await createTenant(admin, {})
      const { status, body } = await stranger.call('keys.get', { ksid, kid: 5 })
      expect([status, body.error, body.invalid_fields]).toEqual([400, 'invalid payload', ['kid']])
      expect((await stranger.call('keys.get', { ksid, kid: NO_KID })).status).toBe(401)
      for (const text of ['[]', '"x"', '3', 'true']) {
        const answer = await admin.call('keys.get', text)
        expect(answer).toMatchObject({ status: 400, body: { error: 'invalid payload' } })
      }
    })

    it('takes an empty body and null for {}', async () => {
      for (const body of ['', ' \n', 'null', '{}']) {
        expect((await admin.call('keyspaces.list', body)).status).toBe(200)
        expect((await admin.call('keyspaces.get', body)).body.invalid_fields).toEqual(['ksid'])
      }
    })

    it('takes JSON by any of its names, with parameters', async () => {
      for (const type of [
        'application/json; charset=utf-8',
        'application/json ;charset=utf-8',
        'Application/JSON',
        'application/vnd.api+json',
      ]) {
        const headers = { ...bearer(), 'content-type': type }
        expect((await send(admin.origin, '/v1/keyspaces.list', { headers, body: '{}' })).status).toBe(200)
      }
    })

    it('takes the token after Bearer in any case, and bare', async () => {
      for (const scheme of ['Bearer ', 'bearer ', 'BEARER   ', '']) {
        const headers = { authorization: scheme + admin.token }
        expect((await send(admin.origin, '/v1/serviceKeys.current', { headers })).status).toBe(200)
      }
    })

    it('ignores unknown fields and the query', async () => {
      const headers = { ...bearer(), ...json }
      const body = '{"list":{"nope":1},"page":-5,"other":{"deep":[1]}}'
      expect((await send(admin.origin, '/v1/keyspaces.list?x=1', { headers, body })).status).toBe(200)
    })

    it('works with Expect: 100-continue', async () => {
      const headers = { ...bearer(), ...json, expect: '100-continue' }
      expect((await send(admin.origin, '/v1/keyspaces.list', { headers, body: '{}' })).status).toBe(200)
    })

    it('answers with JSON that nobody may cache, under an id', async () => {
      const { headers } = await admin.call('keyspaces.list')
      expect(headers['content-type']).toBe('application/json')
      expect(headers['cache-control']).toBe('no-store')
      expect(headers['x-request-id']).toMatch(/^[0-9a-f]{32}$/)
    })
  })

  describe('who may do what', () => {
    type Role = 'none' | 'read' | 'write' | 'both' | 'readAll' | 'writeAll' | 'admin' | 'root'
    const READERS: Role[] = ['read', 'both', 'readAll', 'admin', 'root']
    const WRITERS: Role[] = ['write', 'both', 'writeAll', 'admin', 'root']
    const ADMINS: Role[] = ['admin', 'root']
    const ALL: Role[] = ['none', 'read', 'write', 'both', 'readAll', 'writeAll', 'admin', 'root']
    // Valid parameters that touch nothing: an allowed call finds nothing, a denied one is 401.
    const table: Record<string, { allowed: Role[]; params: () => object; status: number }> = {
      'keys.create': { allowed: WRITERS, params: () => ({ ksid }), status: 200 },
      'keys.check': { allowed: READERS, params: () => ({ ksid, token: 'x' }), status: 404 },
      'keys.list': { allowed: READERS, params: () => ({ ksid }), status: 200 },
      'keys.get': { allowed: READERS, params: () => ({ ksid, kid: NO_KID }), status: 404 },
      'keys.update': { allowed: WRITERS, params: () => ({ ksid, kid: NO_KID }), status: 404 },
      'keys.rotate': { allowed: WRITERS, params: () => ({ ksid, kid: NO_KID }), status: 404 },
      'keys.delete': { allowed: WRITERS, params: () => ({ ksid, kid: NO_KID }), status: 404 },
      'keyspaces.get': { allowed: READERS, params: () => ({ ksid }), status: 200 },
      'keyspaces.list': { allowed: ALL, params: () => ({}), status: 200 },
      'keyspaces.create': {
        allowed: ADMINS,
        params: () => ({ name: `k ${unique()}`, keys_prefix: unique() }),
        status: 200,
      },
      'keyspaces.update': { allowed: ADMINS, params: () => ({ ksid }), status: 200 },
      'keyspaces.delete': { allowed: ADMINS, params: () => ({ ksid: 'ks_none' }), status: 404 },
      'serviceKeys.current': { allowed: ALL, params: () => ({}), status: 200 },
      'serviceKeys.get': { allowed: ADMINS, params: () => ({ skid: NO_SKID }), status: 404 },
      'serviceKeys.list': { allowed: ADMINS, params: () => ({}), status: 200 },
      'serviceKeys.create': { allowed: ADMINS, params: () => ({}), status: 200 },
      'serviceKeys.update': { allowed: ADMINS, params: () => ({ skid: NO_SKID }), status: 404 },
      'serviceKeys.set_token': {
        allowed: ADMINS,
        params: () => ({ skid: NO_SKID, token: 'a token of 16 or more'.replaceAll(' ', '_') }),
        status: 404,
      },
      'serviceKeys.delete': { allowed: ADMINS, params: () => ({ skid: NO_SKID }), status: 404 },
      'config.reload': { allowed: ADMINS, params: () => ({}), status: 200 },
    }
    const clients = new Map<Role, RpcClient>()
    beforeAll(async () => {
      const other = await createTestKeyspace(admin)
      const elsewhere = { [other]: { read: true, write: true } }
      clients.set('none', await createTenant(admin, elsewhere))
      clients.set('read', await createTenant(admin, { [ksid]: { read: true } }))
      clients.set('write', await createTenant(admin, { [ksid]: { write: true } }))
      clients.set('both', await createTenant(admin, { [ksid]: { read: true, write: true } }))
      clients.set('readAll', await createTenant(admin, { '*': { read: true } }))
      clients.set('writeAll', await createTenant(admin, { '*': { write: true } }))
      clients.set('admin', await createTenant(admin, {}, { admin: true }))
      clients.set('root', admin)
    })

    it('has a line for every procedure', () => {
      expect(Object.keys(table).toSorted()).toEqual(PROCEDURES.map(({ name }) => name).toSorted())
    })

    it.each(Object.entries(table))('%s', async (procedure, { allowed, params, status }) => {
      const outcomes: Record<string, number> = {}
      for (const [role, client] of clients) outcomes[role] = (await client.call(procedure, params())).status
      expect(outcomes).toEqual(
        Object.fromEntries([...clients.keys()].map((role) => [role, allowed.includes(role) ? status : 401])),
      )
    })

    it('gives "*" no say over what is not there', async () => {
      const reader = clients.get('readAll') ?? admin
      const answer = await reader.call('keyspaces.get', { ksid: 'ks_none' })
      expect(answer).toMatchObject({ status: 404, body: { error: 'keyspace not found' } })
    })
  })
}
