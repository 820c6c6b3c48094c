import { once } from 'node:events'
import { connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { SCRIPT_CALLS } from '../../src/control-plane/script-calls.ts'
import type { ScriptDeps } from '../../src/control-plane/script-endpoint.ts'
import type { CachePurger } from '../../src/ports/purge.ts'
import { StoreUnavailable } from '../../src/ports/stores.ts'
import { createCallWindow } from '../../src/stores/embedded/call-window.ts'
import { openTestAdmin, ROOT_TOKEN, type TestAdmin } from '../support/admin-listener.ts'
import { FakeClock } from '../support/fakes.ts'
import { createMemoryCache, type MemoryCache } from '../support/memory-cache.ts'
import { createTenant, send } from '../support/rpc-client.ts'

/** The script API as a client meets it: contract section 6. The stores have suites of their own. */

let admin: TestAdmin
let clock: FakeClock
let cache: MemoryCache
let script: ScriptDeps['script']
let purger: CachePurger
let purged: string[]
let counted: unknown[]
let token: string
let skid: string

beforeEach(async () => {
  clock = new FakeClock()
  cache = createMemoryCache()
  purged = []
  counted = []
  purger = { purge: async () => ({ kind: 'done', acknowledged: 3 }) }
  script = {
    cacheStore: cache,
    callWindow: createCallWindow(clock),
    purger: {
      purge(key) {
        purged.push(key)
        return purger.purge(key)
      },
    },
  }
  admin = await openTestAdmin({
    clock,
    script,
    metrics: {
      render: async () => ({ contentType: 'text/plain', body: '' }),
      countAdminRequest: () => {},
      countScriptCall: (...call) => void counted.push(call),
    },
  })
  const tenant = await createTenant(admin.client, {}, { roles: ['SCRIPT'] })
  token = tenant.token
  skid = tenant.skid
})
afterEach(() => admin.close())

const JSON_TYPE = { 'content-type': 'application/json' }

async function post(
  name: string,
  body: unknown,
  headers: Record<string, string | string[]> = { 'x-api-key': token },
) {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  const answer = await send(admin.origin, `/script/${name}`, {
    headers: { ...JSON_TYPE, ...headers },
    body: text,
  })
  return { status: answer.status, headers: answer.headers, body: JSON.parse(answer.text) }
}

async function answerOf(name: string, body: unknown) {
  const { status, body: answer } = await post(name, body)
  return [status, answer]
}

const linesOf = () => admin.logger.lines.filter(({ message }) => message === 'script call')

describe('what is asked of whom', () => {
  it('an unknown path is 404 and another method 405, before anybody is asked for a token', async () => {
    for (const path of ['/script/', '/script/nothing', '/script/invalidate-cache/', '/script/__proto__']) {
      const answer = await send(admin.origin, path, { headers: JSON_TYPE, body: '{}' })
      expect([answer.status, answer.text]).toEqual([404, '{"status":"error","error":"not found"}'])
    }
    for (const method of ['GET', 'PUT', 'DELETE', 'HEAD']) {
      const answer = await send(admin.origin, '/script/remove-redis-keys', { method })
      expect([answer.status, answer.headers.allow]).toEqual([405, 'POST'])
    }
  })

  it('takes the token from X-API-KEY, which wins, or as Bearer', async () => {
    const bearer = (text: string) => ({ authorization: `Bearer ${text}` })
    const body = { keys: [] }
    const cases: [Record<string, string | string[]>, number][] = [
      [{ 'x-api-key': token }, 200],
      [bearer(token), 200],
      [{ 'x-api-key': token, ...bearer('wrong') }, 200],
      [{ 'x-api-key': 'wrong', ...bearer(token) }, 401],
      [{ 'x-api-key': '', ...bearer(token) }, 401],
      [{ 'x-api-key': [token, token] }, 401],
      [{ 'x-api-key': token, origin: 'https://evil.example' }, 401],
      [{}, 401],
    ]
    for (const [headers, status] of cases) {
      const answer = await post('remove-redis-keys', body, headers)
      expect([headers, answer.status]).toEqual([headers, status])
      if (status !== 401) continue
      expect(answer.body).toEqual({ status: 'error', error: 'unauthorized' })
      expect(answer.headers['www-authenticate']).toBe('Bearer')
    }
  })

  it('needs the role SCRIPT, which admin does not give', async () => {
    const boss = await createTenant(admin.client, {}, { admin: true })
    const other = await createTenant(
      admin.client,
      { '*': { read: true, write: true } },
      { roles: ['SCRIPTS'] },
    )
    for (const each of [ROOT_TOKEN, boss.token, other.token]) {
      const answer = await post('remove-redis-keys', 'no json', { 'x-api-key': each })
      expect([answer.status, answer.body]).toEqual([
        403,
        { status: 'error', error: 'the service key needs the role SCRIPT' },
      ])
    }
  })

  it('refuses a service key that was revoked while its body was on its way', async () => {
    cache.entries.set('a', '1')
    const body = JSON.stringify({ keys: 'a' })
    const head = ['POST /script/remove-redis-keys HTTP/1.1', 'Host: x', `X-API-KEY: ${token}`]
    const fields = ['Content-Type: application/json', `Content-Length: ${body.length}`, 'Connection: close']
    const socket = connect(Number(new URL(admin.origin).port), '127.0.0.1')
    let received = ''
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      received += chunk
    })
    const entered = Promise.withResolvers<void>()
    const { enter } = script.callWindow
    script.callWindow.enter = (...args) => enter(...args).finally(entered.resolve)
    socket.write(`${[...head, ...fields].join('\r\n')}\r\n\r\n${body.slice(0, 5)}`)
    await entered.promise
    await admin.client.ok('serviceKeys.delete', { skid })
    clock.now += 1_000
    socket.write(body.slice(5))
    await once(socket, 'close')
    expect(received).toMatch(/^HTTP\/1\.1 401 /)
    expect(cache.entries.size).toBe(1)
  })

  it.each([
    ['no content type', { 'content-type': '' }, '{}', 422, 'unprocessable entity: send application/json'],
    ['a form', { 'content-type': 'application/x-www-form-urlencoded' }, 'keys=a', 422, ''],
    ['no JSON', {}, '{"keys": [}', 400, 'invalid json'],
    [
      'bytes that are no UTF-8',
      {},
      Buffer.from([0x22, 0xff, 0x22]).toString('latin1'),
      400,
      'invalid payload',
    ],
    ['a list', {}, '[]', 400, 'invalid payload'],
    ['nothing', {}, '', 400, 'invalid payload'],
  ])('refuses %s', async (_, headers, body, status, error) => {
    const answer = await post('remove-redis-keys', body, { 'x-api-key': token, ...headers })
    expect(answer.status).toBe(status)
    expect(answer.body).toMatchObject({ status: 'error', ...(error === '' ? {} : { error }) })
  })

  it('takes bodies of up to 16 MiB', async () => {
    const value = 'v'.repeat(15 * 1024 * 1024)
    expect(await answerOf('set-redis-keys', { key: 'big', value })).toMatchObject([200, { set: 1 }])
    expect(cache.entries.get('big')?.length).toBe(value.length)
    const [status, body] = await answerOf('set-redis-keys', { key: 'big', value: `${value}${value}` })
    expect([status, body]).toEqual([413, { status: 'error', error: 'payload too large' }])
  })
})

describe('the limit', () => {
  it('61 calls in 60 s: the 61st is 429 with Retry-After, whatever they were; another key passes', async () => {
    const calls = ['invalidate-cache', 'removeRedisKey', 'get-redis-keys', 'setRedisKeys']
    const statuses = new Map<number, number>()
    for (let call = 0; call < 60; call++) {
      const { status } = await post(calls[call % 4] ?? '', {
        key: 'a',
        keys: call % 8 === 1 ? ['*'] : 'a',
        value: 1,
      })
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
      clock.now += 100
    }
    expect(statuses.get(200)).toBeGreaterThan(40)
    expect(statuses.get(400)).toBeGreaterThan(5)
    expect((statuses.get(200) ?? 0) + (statuses.get(400) ?? 0)).toBe(60)

    const late = await post('get-redis-keys', 'no json')
    expect([late.status, late.body]).toEqual([429, { status: 'error', error: 'rate limit exceeded' }])
    expect(late.headers['retry-after']).toBe('55')
    const other = await createTenant(admin.client, {}, { roles: ['SCRIPT'] })
    for (let call = 0; call < 60; call++) {
      expect((await post('get-redis-keys', { keys: 'a' }, { 'x-api-key': other.token })).status).toBe(200)
    }
    clock.now += 54_000
    expect((await post('get-redis-keys', { keys: 'a' })).headers['retry-after']).toBe('1')
    clock.now += 1_000
    expect((await post('get-redis-keys', { keys: 'a' })).status).toBe(200)
  })

  it('is the service key’s, whatever its token, and comes before role and body', async () => {
    await admin.client.ok('serviceKeys.update', { skid, roles: ['OTHER'] })
    for (let call = 0; call < 60; call++) expect((await post('get-redis-keys', '{')).status).toBe(403)
    expect((await post('get-redis-keys', '{')).status).toBe(429)
    token = 'another-token-of-the-same-key'
    await admin.client.ok('serviceKeys.set_token', { skid, token })
    expect((await post('get-redis-keys', '{')).status).toBe(429)
  })

  it('holds no token that is not valid against anybody', async () => {
    for (let call = 0; call < 70; call++) {
      expect((await post('get-redis-keys', {}, { 'x-api-key': 'wrong' })).status).toBe(401)
    }
    expect((await post('get-redis-keys', { keys: 'a' })).status).toBe(200)
  })

  it('follows the configuration', async () => {
    admin.settings = { ...admin.settings, script: { limit: 2, namespaces: ['*'] } }
    const statuses = []
    for (let call = 0; call < 3; call++) statuses.push((await post('get-redis-keys', { keys: 'a' })).status)
    expect(statuses).toEqual([200, 200, 429])
  })

  it('says 503 while the store that counts cannot be asked, and does nothing', async () => {
    cache.entries.set('a', '1')
    script.callWindow.enter = () => Promise.reject(new StoreUnavailable('Redis is away'))
    const answer = await post('remove-redis-keys', { keys: 'a' })
    expect([answer.status, answer.body]).toEqual([503, { status: 'error', error: 'store unavailable' }])
    expect(answer.headers['retry-after']).toBe('1')
    expect(cache.entries.size).toBe(1)
  })
})

describe('keys', () => {
  const BAD = [
    ['a wildcard', 'user:*', 'must not contain "*"'],
    ['nothing', '', 'must not be empty'],
    ['1025 bytes', `${'ä'.repeat(512)}x`, 'must have at most 1024 bytes'],
    ['a line break', 'a\nb', 'must not contain control characters'],
    ['a NUL', 'a\u0000', 'must not contain control characters'],
    ['a C1 control', 'a\u0085', 'must not contain control characters'],
    ['half a character', 'a\ud800', 'must be well-formed Unicode'],
    ['a number', 7, 'must be a string'],
    ['null', null, 'must be a string'],
    ['a list', ['a'], 'must be a string'],
    ['an object', { key: 'a' }, 'must be a string'],
    ['true', true, 'must be a string'],
  ] as const

  it.each(BAD)('%s is refused with its position, and nothing is deleted', async (_, bad, hint) => {
    cache.entries.set('a', '1')
    const [status, body] = await answerOf('remove-redis-keys', { keys: ['a', bad, 'b', bad] })
    expect([status, body.status, body.error, body.invalid_positions]).toEqual([
      400,
      'error',
      'invalid payload',
      [1, 3],
    ])
    expect(body.details[0]).toContain(`keys.1 ${hint}`)
    expect([...cache.entries]).toEqual([['a', '1']])
    const single = await answerOf('invalidate-cache', { key: bad })
    expect(single).toMatchObject([400, { status: 'error', error: 'invalid payload' }])
    expect(purged).toEqual([])
  })

  it('what only looks special is an ordinary key', async () => {
    for (const key of ['?', '[a]', 'a b', '%', '\\', '__proto__', 'k'.repeat(1024), 'ä'.repeat(512)]) {
      expect(await answerOf('set-redis-keys', { key, value: 'v' })).toMatchObject([200, { set: 1 }])
      const [, { data }] = await answerOf('get-redis-keys', { keys: key })
      expect(Object.entries(data)).toEqual([[key, 'v']])
    }
  })

  it.each([[{}], [{ keys: null }], [{ keys: 7 }], [{ keys: { a: 1 } }], [{ key: 'a' }]])(
    '%j is 400: keys must be there',
    async (body) => {
      expect(await answerOf('remove-redis-keys', body)).toMatchObject([400, { error: 'invalid payload' }])
    },
  )

  it('at most 10,000 in a call', async () => {
    const keys = Array.from({ length: 10_000 }, (_, index) => `k${index}`)
    expect(await answerOf('remove-redis-keys', { keys })).toMatchObject([200, { requested: 10_000 }])
    const [status, body] = await answerOf('remove-redis-keys', { keys: [...keys, 'one more'] })
    expect(status).toBe(400)
    expect(body.details).toEqual(['keys must have at most 10000 items; split it into several calls'])
    const nothing = Array.from({ length: 200_000 }, () => '')
    expect((await answerOf('remove-redis-keys', { keys: nothing }))[0]).toBe(400)
  })

  it('of foreign namespaces are 403, after the 400s, with nothing deleted', async () => {
    admin.settings = { ...admin.settings, script: { limit: 60, namespaces: ['user:', 'session:'] } }
    for (const key of ['user:1', 'other:1']) cache.entries.set(key, '1')
    const [status, body] = await answerOf('remove-redis-keys', {
      keys: ['user:1', 'other:1', 'session:1', 'use'],
    })
    expect(status).toBe(403)
    expect(body).toMatchObject({ status: 'error', error: 'key not allowed', invalid_positions: [1, 3] })
    expect((await answerOf('remove-redis-keys', { keys: ['other:1', '*'] }))[0]).toBe(400)
    expect((await answerOf('set-redis-keys', { key: 'other:1', value: 1 }))[0]).toBe(403)
    expect((await answerOf('get-redis-keys', { keys: 'other:1' }))[0]).toBe(403)
    for (const key of ['other:1', 'all:', 'tag:a']) {
      expect((await answerOf('invalidate-cache', { key }))[0]).toBe(403)
    }
    expect([cache.entries.size, purged]).toEqual([2, []])
    expect((await answerOf('remove-redis-keys', { keys: ['user:1', 'session:1'] }))[0]).toBe(200)
  })

  it('of the gateway itself are 403, whatever the namespaces', async () => {
    for (const namespaces of [['*'], ['dripgate:', 'mine:']]) {
      admin.settings = { ...admin.settings, script: { limit: 60, namespaces } }
      for (const key of ['dripgate:{m}:layout', 'mine:x']) {
        cache.entries.set(key, '1')
        expect(await answerOf('remove-redis-keys', { keys: [key] })).toMatchObject([
          403,
          { invalid_positions: [0] },
        ])
        expect((await answerOf('set-redis-keys', { items: [{ key, value: 1 }] }))[0]).toBe(403)
        expect((await answerOf('get-redis-keys', { keys: key }))[0]).toBe(403)
        expect((await answerOf('invalidate-cache', { key }))[0]).toBe(403)
        expect(cache.entries.get(key)).toBe('1')
      }
    }
  })
})

describe('remove-redis-keys', () => {
  it.each(['remove-redis-keys', 'removeRedisKey', 'removeRedisKeys'])(
    '%s answers as promised',
    async (name) => {
      for (const key of ['a', 'c']) cache.entries.set(key, '1')
      expect(await answerOf(name, { keys: ['a', 'b', 'a', 'b'] })).toEqual([
        200,
        { success: true, statusCode: 200, data: true, requested: 2, deleted: 1, skipped: 1 },
      ])
      expect(await answerOf(name, { keys: 'c', unknown: 1 })).toEqual([
        200,
        { success: true, statusCode: 200, data: true, requested: 1, deleted: 1, skipped: 0 },
      ])
      expect(await answerOf(name, { keys: [] })).toEqual([
        200,
        { success: true, statusCode: 200, data: true, requested: 0, deleted: 0, skipped: 0 },
      ])
    },
  )

  it('says in a 502 what was done and what was not', async () => {
    for (const key of ['a', 'b', 'c']) cache.entries.set(key, '1')
    cache.failing.add('b')
    expect(await answerOf('remove-redis-keys', { keys: ['a', 'b', 'missing'] })).toEqual([
      502,
      {
        status: 'error',
        error: 'the cache database failed for 1 of 3 keys; it is safe to repeat the call',
        success: false,
        statusCode: 502,
        data: true,
        requested: 3,
        deleted: 1,
        skipped: 1,
        failed: ['b'],
      },
    ])
    cache.failing.clear()
    expect(await answerOf('remove-redis-keys', { keys: ['a', 'b', 'missing'] })).toMatchObject([
      200,
      { deleted: 1, skipped: 2 },
    ])
  })
})

describe('get-redis-keys and set-redis-keys', () => {
  it.each(['get-redis-keys', 'getRedisKey', 'getRedisKeys'])(
    '%s gives null for what is not there',
    async (name) => {
      cache.entries.set('a', 'one')
      const [status, body] = await answerOf(name, { keys: ['a', 'b', 'a'] })
      expect([status, body]).toEqual([200, { success: true, statusCode: 200, data: { a: 'one', b: null } }])
      expect((await answerOf(name, { keys: 'a' }))[1].data).toEqual({ a: 'one' })
      expect((await answerOf(name, { keys: [] }))[1].data).toEqual({})
    },
  )

  it.each(['set-redis-keys', 'setRedisKey', 'setRedisKeys'])('%s takes one entry or a list', async (name) => {
    expect(await answerOf(name, { key: 'a', value: 'one', ttl: 60 })).toEqual([
      200,
      { success: true, statusCode: 200, data: true, set: 1 },
    ])
    const items = [
      { key: 'b', value: '1', ttl: null },
      { key: 'c', value: '2' },
      { key: 'b', value: '3' },
    ]
    expect((await answerOf(name, { items }))[1].set).toBe(2)
    expect(Object.fromEntries(cache.entries)).toEqual({ a: 'one', b: '3', c: '2' })
    expect((await answerOf(name, { items: [] }))[1].set).toBe(0)
  })

  it('stores what is no string as JSON text, and parses it on demand', async () => {
    const values = {
      n: 1.5,
      t: true,
      z: null,
      l: [1, 'x'],
      o: { a: { b: [] } },
      s: 'plain text',
      q: '"quoted"',
    }
    const items = Object.entries(values).map(([key, value]) => ({ key, value }))
    expect((await answerOf('set-redis-keys', { items }))[1].set).toBe(7)
    const keys = Object.keys(values)
    expect((await answerOf('get-redis-keys', { keys }))[1].data).toEqual({
      n: '1.5',
      t: 'true',
      z: 'null',
      l: '[1,"x"]',
      o: '{"a":{"b":[]}}',
      s: 'plain text',
      q: '"quoted"',
    })
    const parsed = (await answerOf('get-redis-keys', { keys: [...keys, 'missing'], json: true }))[1].data
    expect(parsed).toEqual({ ...values, q: 'quoted', missing: null })
  })

  it('changes no digit of a number', async () => {
    const text = '{"id":12345678901234567890,"x":1e400,"d":0.12345678901234567890,"ttl":1.0}'
    const answer = await post('set-redis-keys', `{"key":"a","ttl":60.0,"value":${text}}`)
    expect(answer.body).toMatchObject({ set: 1 })
    expect(cache.entries.get('a')).toBe(text.replace('1.0', '1'))
    const read = await send(admin.origin, '/script/get-redis-keys', {
      headers: { ...JSON_TYPE, 'x-api-key': token },
      body: '{"keys":"a","json":true}',
    })
    expect(read.text).toContain('"id":12345678901234567890')
  })

  it('gives a value with too many levels as the text that it is', async () => {
    cache.entries.set('deep', `${'['.repeat(100_000)}${']'.repeat(100_000)}`)
    const [status, body] = await answerOf('get-redis-keys', { keys: 'deep', json: true })
    expect([status, typeof body.data.deep]).toEqual([200, 'string'])
  })

  it.each([
    [{ key: 'a' }, 'value must be given'],
    [{ value: 1 }, 'key must be a string'],
    [{ key: 'a', value: 1, ttl: 0 }, 'ttl must be a whole number of seconds from 1'],
    [{ key: 'a', value: 1, ttl: -1 }, 'ttl must be'],
    [{ key: 'a', value: 1, ttl: 1.5 }, 'ttl must be'],
    [{ key: 'a', value: 1, ttl: '60' }, 'ttl must be'],
    [{ key: 'a', value: 1, ttl: 2 ** 31 }, 'ttl must be'],
    [{ key: 'a', value: '\ud800' }, 'value must be well-formed Unicode'],
    [{ items: 'a' }, 'items must be a list'],
    [{ items: [], key: 'a', value: 1 }, 'must have either key and value, or items'],
    [{ items: [{ key: 'b', value: 1 }], key: 'a', value: 1 }, 'must have either key and value, or items'],
    [{ items: [{ key: 'a', value: 1 }, 7] }, 'items.1 must be an object'],
    [
      {
        items: [
          { key: 'a', value: 1 },
          { key: 'b*', value: 1 },
        ],
      },
      'items.1.key must not contain "*"',
    ],
  ])('refuses to set %j, and sets nothing', async (body, hint) => {
    const [status, answer] = await answerOf('set-redis-keys', body)
    expect([status, answer.error]).toEqual([400, 'invalid payload'])
    expect(answer.details.join()).toContain(hint)
    if (hint.startsWith('items.')) expect(answer.invalid_positions).toEqual([1])
    expect(cache.entries.size).toBe(0)
  })

  it('refuses to read more than 16 MiB at once', async () => {
    for (const key of ['a', 'b']) cache.entries.set(key, 'x'.repeat(9 * 1024 * 1024))
    const [status, body] = await answerOf('get-redis-keys', { keys: ['a', 'b'] })
    expect([status, body.error]).toEqual([400, 'the values are too large together'])
    expect((await answerOf('get-redis-keys', { keys: ['a'] }))[0]).toBe(200)
  })

  it('says in a 502 what was read or set and what was not', async () => {
    cache.entries.set('a', '1')
    cache.failing.add('b')
    expect(await answerOf('get-redis-keys', { keys: ['a', 'b', 'c'] })).toMatchObject([
      502,
      { status: 'error', success: false, data: { a: '1', c: null }, failed: ['b'] },
    ])
    const items = ['b', 'c'].map((key) => ({ key, value: 'v' }))
    expect(await answerOf('set-redis-keys', { items })).toMatchObject([502, { set: 1, failed: ['b'] }])
  })
})

describe('invalidate-cache', () => {
  it('drops the key itself and what is cached under it', async () => {
    cache.entries.set('user:profile:12345', 'x')
    expect(await answerOf('invalidate-cache', { key: 'user:profile:12345' })).toEqual([
      200,
      { status: 'success', deleted: 1, acknowledged: 3 },
    ])
    expect([cache.entries.size, purged]).toEqual([0, ['user:profile:12345']])
    expect((await answerOf('invalidate-cache', { key: 'user:profile:12345' }))[1].deleted).toBe(0)
  })

  it('drops the key first, so that no upstream builds a new answer from it', async () => {
    cache.entries.set('a', 'x')
    let wasThere: boolean | undefined
    purger = {
      async purge() {
        wasThere = cache.entries.has('a')
        return { kind: 'done', acknowledged: 1 }
      },
    }
    expect((await answerOf('invalidate-cache', { key: 'a' }))[0]).toBe(200)
    expect(wasThere).toBe(false)
  })

  it('a typed key reaches one kind, and not the cache database', async () => {
    const typed = [
      'url:https://a.example/x?y=1',
      'tag:user-5',
      'route:orders',
      'key:k_abc',
      'keyspace:ks_abc',
      'all:',
    ]
    for (const key of [...typed, 'key:7']) cache.entries.set(key, 'x')
    for (const key of typed) {
      expect(await answerOf('invalidate-cache', { key })).toMatchObject([
        200,
        { status: 'success', deleted: 0 },
      ])
    }
    expect([cache.entries.size, purged]).toEqual([7, typed])
    expect((await answerOf('invalidate-cache', { key: 'key:7' }))[1].deleted).toBe(1)
  })

  it('is 202 while a node has not answered', async () => {
    purger = { purge: async () => ({ kind: 'pending', acknowledged: 2, pending: 1 }) }
    expect(await answerOf('invalidate-cache', { key: 'a' })).toEqual([
      202,
      { status: 'pending', deleted: 0, acknowledged: 2, pending: 1 },
    ])
  })

  it('is 502 where one half failed, and says what the other did', async () => {
    cache.entries.set('a', 'x')
    cache.failing.add('a')
    expect(await answerOf('invalidate-cache', { key: 'a' })).toMatchObject([
      502,
      { status: 'error', deleted: 0, acknowledged: 3, failed: ['a'] },
    ])
    cache.failing.clear()
    purger = { purge: () => Promise.reject(new StoreUnavailable('away')) }
    const [status, body] = await answerOf('invalidate-cache', { key: 'a' })
    expect([status, body.deleted, body.failed, 'acknowledged' in body]).toEqual([502, 1, [], false])
  })
})

describe('what operators see', () => {
  it('one line for every call, with keys cut to 64 characters and never a token', async () => {
    await post('remove-redis-keys', { keys: ['k'.repeat(100), 'b'] })
    await post('remove-redis-keys', { keys: ['*'] })
    await post('remove-redis-keys', { keys: ['dripgate:x'] })
    await post('remove-redis-keys', {}, { 'x-api-key': 'guess' })
    await post('get-redis-keys', { keys: Array.from({ length: 500 }, (_, index) => `k${index}`) })
    const lines = linesOf()
    expect(lines.map(({ fields }) => [fields['outcome'], fields['status'], fields['key_count']])).toEqual([
      ['success', 200, 2],
      ['invalid', 400, undefined],
      ['forbidden', 403, 1],
      ['unauthorized', 401, undefined],
      ['success', 200, 500],
    ])
    expect(lines[0]).toMatchObject({
      level: 'info',
      fields: {
        skid,
        call: 'remove-redis-keys',
        keys: ['k'.repeat(64), 'b'],
        done: 0,
        missing: 2,
        failed: 0,
      },
    })
    expect(lines[4]?.fields['keys']).toHaveLength(100)
    expect(JSON.stringify(lines)).not.toContain(token)
    expect(JSON.stringify(lines)).not.toContain('guess')
  })

  it('a failure is a warning that says why, which the client is not told', async () => {
    cache.failing.add('a')
    const { body } = await post('remove-redis-keys', { keys: 'a' })
    expect(JSON.stringify(body)).not.toContain('on fire')
    expect(linesOf()).toMatchObject([{ level: 'warn', fields: { outcome: 'failed', failed: 1 } }])
    expect(linesOf()[0]?.fields['error']).toContain('the disk is on fire')
  })

  it('counts calls and keys', async () => {
    cache.entries.set('a', '1')
    await post('removeRedisKeys', { keys: ['a', 'b'] })
    await post('invalidate-cache', { key: 'tag:x' })
    await post('get-redis-keys', { keys: ['b', 'c', 'c'] })
    await post('get-redis-keys', {})
    expect(counted).toMatchObject([
      ['remove-redis-keys', 'success', { done: 1, missing: 1, failed: 0 }],
      ['invalidate-cache', 'success', { done: 0, missing: 0, failed: 0 }],
      ['get-redis-keys', 'success', { done: 0, missing: 2, failed: 0 }],
      ['get-redis-keys', 'invalid', { done: 0, missing: 0, failed: 0 }],
    ])
  })

  it('an OpenAPI document that describes every call, with examples that hold', async () => {
    const document = JSON.parse((await send(admin.origin, '/openapi.json', { method: 'GET' })).text)
    for (const { name, params, result, example } of SCRIPT_CALLS) {
      const { post: operation } = document.paths[`/script/${name}`]
      expect(operation.operationId).toBe(name)
      expect(Object.keys(operation.responses)).toEqual(
        expect.arrayContaining(['200', '400', '401', '403', '413', '429', '502', '503']),
      )
      expect(params.safeParse(example.params).success).toBe(true)
      expect(result.parse(example.result)).toEqual(example.result)
      const { schema } = operation.requestBody.content['application/json']
      expect(JSON.stringify(schema)).toMatch(/"key"|"keys"/)
    }
    const { keys } =
      document.paths['/script/remove-redis-keys'].post.requestBody.content['application/json'].schema
        .properties
    expect(keys.anyOf.map(({ type }: { type: string }) => type)).toEqual(['string', 'array'])
    expect(document.components.securitySchemes.scriptKey).toMatchObject({ in: 'header', name: 'X-API-KEY' })
  })
})
