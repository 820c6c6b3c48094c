import { once } from 'node:events'
import { request as sendRequest } from 'node:http'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hashToken } from '../../src/app/tokens.ts'
import { openTestAdmin, ROOT_TOKEN, type TestAdmin } from '../support/admin-listener.ts'
import { createTenant, createTestKeyspace, type RawAnswer, send } from '../support/rpc-client.ts'

let admin: TestAdmin
let ksid: string
beforeAll(async () => {
  admin = await openTestAdmin()
  ksid = await createTestKeyspace(admin.client)
})
afterAll(() => admin.close())

const MIB = 1024 * 1024
const json = { 'content-type': 'application/json', authorization: `Bearer ${ROOT_TOKEN}` }
const post = (
  procedure: string,
  body: string | Uint8Array,
  headers: Record<string, string | string[]> = json,
) => send(admin.origin, `/v1/${procedure}`, { headers, body })

describe('hostile JSON', () => {
  it('__proto__, constructor and toString pollute nothing and name nothing', async () => {
    for (const name of ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty']) {
      await post('keyspaces.list', `{"${name}":{"admin":true,"polluted":1},"list":{"${name}":{"page":2}}}`)
      await post('serviceKeys.create', `{"keyspaces_policies":{"${name}":{"read":true,"write":true}}}`)
      await post('serviceKeys.create', `{"keyspaces_policies":{"${ksid}":{"${name}":{"read":true}}}}`)
      for (const field of ['ksid', 'kid', 'token']) {
        await post('keys.get', JSON.stringify({ ksid, kid: 'k_x', token: 'x', [field]: name }))
      }
    }
    expect(Object.keys(Object.prototype)).toEqual([])
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
    const tenant = await createTenant(admin.client, {})
    const answer = await send(admin.origin, '/v1/serviceKeys.list', {
      headers: { ...json, authorization: tenant.token },
      body: '{"__proto__":{"admin":true}}',
    })
    expect(answer.status).toBe(401)
  })

  it('a policy under __proto__ gives no rights', async () => {
    const { text } = await post('serviceKeys.create', '{"keyspaces_policies":{"__proto__":{"read":true}}}')
    const { token, keyspaces_policies } = JSON.parse(text)
    expect(keyspaces_policies).toEqual({})
    expect((await admin.client.as(token).call('keys.list', { ksid })).status).toBe(401)
    expect((await admin.client.as(token).call('keys.list', { ksid: '__proto__' })).status).toBe(401)
  })

  it('100 kB of nesting is refused quickly, 64 levels are not, and brackets in strings do not count', async () => {
    const nested = (levels: number, open: string, close: string) =>
      `{"x":${open.repeat(levels)}1${close.repeat(levels)}}`
    const startedMs = performance.now()
    for (const body of [
      nested(50_000, '[', ']'),
      nested(20_000, '{"a":', '}'),
      '['.repeat(100_000),
      nested(64, '[', ']'),
    ]) {
      const { status, text } = await post('keyspaces.list', body)
      expect([status, JSON.parse(text).error]).toEqual([400, 'invalid json'])
    }
    expect(performance.now() - startedMs).toBeLessThan(2_000)
    expect((await post('keyspaces.list', nested(63, '[', ']'))).status).toBe(200)
    const brackets = JSON.stringify({ x: '[{"'.repeat(10_000), y: '\\"['.repeat(100) })
    expect((await post('keyspaces.list', brackets)).status).toBe(200)
  })

  it('the last of two equal names counts, for the check and for the deed', async () => {
    const other = await createTestKeyspace(admin.client)
    const tenant = await createTenant(admin.client, { [ksid]: { read: true, write: true } })
    const headers = { ...json, authorization: `Bearer ${tenant.token}` }
    const denied = await post('keys.create', `{"ksid":"${ksid}","ksid":"${other}"}`, headers)
    expect(denied.status).toBe(401)
    const allowed = await post('keys.create', `{"ksid":"${other}","ksid":"${ksid}"}`, headers)
    expect([allowed.status, JSON.parse(allowed.text).ksid]).toEqual([200, ksid])
  })

  it('numbers beyond all bounds are 400, wherever a number is read', async () => {
    for (const number of ['1e400', '-1e400', '1e309', '9007199254740993', '0.1', '-0.5', '1e-400']) {
      const isZero = Number(number) === 0
      const { status } = await post('keys.list', `{"ksid":"${ksid}","list":{"page":${number}}}`)
      expect([number, status]).toEqual([number, isZero ? 200 : 400])
    }
  })

  it('a thousand faults make a short answer', async () => {
    const keyspaces_policies = Object.fromEntries(
      Array.from({ length: 5_000 }, (_, i) => [`ks_${i}`.padEnd(100, 'x'), 1]),
    )
    const { status, text } = await post('serviceKeys.create', JSON.stringify({ keyspaces_policies }))
    expect(status).toBe(400)
    expect(text.length).toBeLessThan(5_000)
    expect(JSON.parse(text).invalid_fields).toEqual(['keyspaces_policies'])
    const many = Object.fromEntries(Array.from({ length: 1_001 }, (_, i) => [`ks_${i}`, {}]))
    const tooMany = await post('serviceKeys.create', JSON.stringify({ keyspaces_policies: many }))
    expect(tooMany.status).toBe(400)
  })
})

describe('hostile bodies', () => {
  it('exactly 1 MiB is read, one byte more is 413', async () => {
    const fill = (bytes: number) => `{"x":"${'x'.repeat(bytes - 8)}"}`
    expect((await post('keyspaces.list', fill(MIB))).status).toBe(200)
    const { status, text, headers } = await post('keyspaces.list', fill(MIB + 1))
    expect([status, text]).toEqual([413, '{"error":"payload too large"}'])
    expect(headers.connection).toBe('close')
  })

  it('a body without a length is cut off as soon as it is too long', async () => {
    const request = sendRequest(`${admin.origin}/v1/keyspaces.list`, {
      method: 'POST',
      headers: json,
      agent: false,
    })
    request.on('error', () => {})
    const chunk = Buffer.alloc(64 * 1024, ' ')
    const answered = once(request, 'response')
    let isAnswered = false
    void answered.then(() => {
      isAnswered = true
    })
    for (let sent = 0; sent < 20 && !isAnswered; sent++) {
      if (!request.write(chunk)) await Promise.race([once(request, 'drain'), answered])
    }
    const [response] = await answered
    expect(response.statusCode).toBe(413)
    response.resume()
    request.destroy()
  })

  it('is not read at all from those who may not speak', async () => {
    const socket = connect(admin.address.port, '127.0.0.1')
    socket.on('error', () => {})
    let received = ''
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      received += chunk
    })
    socket.write(
      'POST /v1/keys.get HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nContent-Length: 900000000\r\n\r\n{',
    )
    await expect.poll(() => received, { timeout: 1_500 }).toContain('{"error":"unauthorized"}')
    await once(socket, 'close')
    expect(received).toMatch(/^HTTP\/1\.1 401 /)
    expect(received.toLowerCase()).toContain('connection: close')
  })

  it('a body that trickles in does not outlive the revocation of its token', async () => {
    const mine = await createTestKeyspace(admin.client)
    const tenant = await createTenant(admin.client, { [mine]: { read: true, write: true } })
    const body = JSON.stringify({ ksid: mine })
    const socket = connect(admin.address.port, '127.0.0.1')
    let received = ''
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      received += chunk
    })
    const fields = `Authorization: ${tenant.token}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n`
    admin.store.calls.length = 0
    socket.write(
      `POST /v1/keys.create HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${fields}\r\n${body.slice(0, 5)}`,
    )
    await expect.poll(() => admin.store.calls).toContain('findServiceKeyByToken')
    await admin.client.ok('serviceKeys.delete', { skid: tenant.skid })
    const deletedMs = performance.now()
    await expect.poll(() => performance.now() - deletedMs).toBeGreaterThan(50)
    socket.write(body.slice(5))
    await once(socket, 'close')
    expect(received).toMatch(/^HTTP\/1\.1 401 /)
    expect((await admin.client.ok('keys.list', { ksid: mine })).keys).toEqual([])
  })

  it('forms, text and multipart are never taken for JSON', async () => {
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'text/json',
    ]) {
      const answer = await post('keyspaces.list', '{}', { ...json, 'content-type': type })
      expect(answer.status).toBe(422)
    }
  })
})

describe('credentials', () => {
  it('two Authorization fields are none, whichever is good', async () => {
    for (const pair of [
      [ROOT_TOKEN, 'x'],
      ['x', ROOT_TOKEN],
      [ROOT_TOKEN, ROOT_TOKEN],
    ]) {
      const head = pair.map((token) => `Authorization: Bearer ${token}\r\n`).join('')
      const socket = connect(admin.address.port, '127.0.0.1')
      let received = ''
      socket.setEncoding('latin1').on('data', (chunk: string) => {
        received += chunk
      })
      socket.write(`POST /v1/serviceKeys.current HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${head}\r\n`)
      await once(socket, 'close')
      expect(received).toMatch(/^HTTP\/1\.1 401 /)
    }
  })

  it('no token is good in another place, or a little longer or shorter', async () => {
    for (const headers of [
      { 'x-api-key': ROOT_TOKEN },
      { cookie: `token=${ROOT_TOKEN}` },
      { authorization: `Bearer ${ROOT_TOKEN}x` },
      { authorization: `Bearer ${ROOT_TOKEN.slice(0, -1)}` },
      { authorization: `Bearer ${ROOT_TOKEN.toUpperCase()}` },
      { authorization: `Bearer ${hashToken(ROOT_TOKEN)}` },
      { authorization: `Bearer Bearer ${ROOT_TOKEN}` },
      { authorization: `Basic ${Buffer.from(`:${ROOT_TOKEN}`).toString('base64')}` },
    ]) {
      expect((await send(admin.origin, '/v1/serviceKeys.current', { headers })).status).toBe(401)
    }
    const inQuery = await send(admin.origin, `/v1/serviceKeys.current?token=${ROOT_TOKEN}`)
    expect(inQuery.status).toBe(401)
  })

  it('a wrong token is asked for at the store by its hash alone', async () => {
    admin.store.calls.length = 0
    await send(admin.origin, '/v1/serviceKeys.current', { headers: { authorization: 'Bearer guess' } })
    expect(admin.store.calls).toEqual(['findServiceKeyByToken'])
  })

  it('every refusal looks the same from outside', async () => {
    const tenant = await createTenant(admin.client, {})
    const key = await admin.client.ok('keys.create', { ksid })
    const shape = ({ status, text, headers }: RawAnswer) => {
      const { date: _date, 'x-request-id': _id, ...fields } = headers
      return JSON.stringify({ status, text, fields })
    }
    const asTenant = { ...json, authorization: `Bearer ${tenant.token}` }
    const shapes = new Set<string>()
    for (const headers of [{ ...json, authorization: 'Bearer wrong' }, asTenant]) {
      for (const where of [ksid, 'ks_none', '*', '']) {
        if (where === '' && headers === asTenant) continue
        shapes.add(shape(await post('keys.get', JSON.stringify({ ksid: where, kid: key.kid }), headers)))
        shapes.add(
          shape(await post('keys.check', JSON.stringify({ ksid: where, token: key.token }), headers)),
        )
      }
      shapes.add(shape(await post('serviceKeys.get', '{"skid":"sk_root"}', headers)))
      shapes.add(shape(await post('serviceKeys.get', '{"skid":"sk_nobody"}', headers)))
    }
    expect([...shapes]).toHaveLength(1)
  })

  it('a keyspace called "*" cannot be had by naming it', async () => {
    const tenant = await createTenant(admin.client, { [ksid]: { read: true, write: true } })
    for (const procedure of ['keys.create', 'keys.list', 'keyspaces.get']) {
      expect((await tenant.call(procedure, { ksid: '*' })).status).toBe(401)
    }
    expect((await admin.client.call('keyspaces.get', { ksid: '*' })).status).toBe(404)
  })

  it('a service key cannot raise itself by any parameter', async () => {
    const tenant = await createTenant(admin.client, { '*': { read: true, write: true } })
    const raise = { admin: true, keyspaces_policies: { '*': { read: true, write: true } }, roles: ['SCRIPT'] }
    for (const [procedure, params] of [
      ['serviceKeys.create', raise],
      ['serviceKeys.update', { skid: tenant.skid, ...raise }],
      ['serviceKeys.list', {}],
      ['keyspaces.create', { name: 'mine', keys_prefix: 'mine' }],
      ['keyspaces.delete', { ksid }],
      ['keyspaces.update', { ksid, name: 'mine' }],
    ] as const) {
      expect((await tenant.call(procedure, params)).status).toBe(401)
    }
    const token = 'a-token-of-my-own-making-2'
    await tenant.ok('serviceKeys.set_token', { skid: tenant.skid, token, ...raise })
    expect(await tenant.as(token).ok('serviceKeys.current')).toMatchObject({ admin: false, roles: [] })
  })

  it('a key is reached only through its own keyspace', async () => {
    const mine = await createTestKeyspace(admin.client)
    const tenant = await createTenant(admin.client, { [mine]: { read: true, write: true } })
    const key = await admin.client.ok('keys.create', { ksid })
    for (const [procedure, more] of [
      ['keys.get', { kid: key.kid }],
      ['keys.get', { token: key.token }],
      ['keys.check', { token: key.token }],
      ['keys.update', { kid: key.kid, expires_at: '2001-01-01T00:00:00Z' }],
      ['keys.rotate', { kid: key.kid }],
      ['keys.delete', { kid: key.kid }],
    ] as const) {
      const answer = await tenant.call(procedure, { ksid: mine, ...more })
      expect(answer).toMatchObject({ status: 404, body: { error: 'key not found' } })
    }
    await admin.client.ok('keys.check', { ksid, token: key.token })
  })
})

describe('web pages of other origins', () => {
  const current = (headers: Record<string, string>) =>
    send(admin.origin, '/v1/serviceKeys.current', { headers: { authorization: ROOT_TOKEN, ...headers } })

  it('are refused even with a good token', async () => {
    for (const headers of [
      { origin: 'http://evil.example' },
      { origin: 'null' },
      { origin: `${admin.origin}0` },
      { 'sec-fetch-site': 'cross-site' },
    ]) {
      expect(await current(headers)).toMatchObject({ status: 401, text: '{"error":"unauthorized"}' })
    }
  })

  it('while a page of this listener and programs are not', async () => {
    for (const headers of [
      { origin: admin.origin, 'sec-fetch-site': 'same-origin' },
      { 'sec-fetch-site': 'none' },
      { host: 'gateway.internal:7131' },
    ]) {
      expect((await current(headers)).status).toBe(200)
    }
    const preflight = await send(admin.origin, '/v1/keys.get', {
      method: 'OPTIONS',
      headers: { origin: 'http://evil.example', 'access-control-request-method': 'POST' },
    })
    expect(preflight.status).toBe(405)
    expect(Object.keys(preflight.headers).filter((name) => name.startsWith('access-control'))).toEqual([])
  })
})
