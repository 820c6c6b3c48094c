import { beforeAll, describe, expect, it } from 'vitest'
import { createTenant, createTestKeyspace, type RpcClient, send } from '../support/rpc-client.ts'

const TEN = { limit: 10, refill_rate: 1, refill_interval: 3_600_000 }
const LIFETIME = { limit: 3, refill_rate: 0, refill_interval: 0 }
const NO_KID = `k_${'z'.repeat(22)}`

export function describeKeys(root: () => RpcClient): void {
  let admin: RpcClient
  let ksid: string
  beforeAll(async () => {
    admin = root()
    ksid = await createTestKeyspace(admin)
  })
  const create = (more: Record<string, unknown> = {}) => admin.ok('keys.create', { ksid, ...more })
  const check = (token: string, where = ksid) => admin.call('keys.check', { ksid: where, token })

  describe('keys.create', () => {
    it('200: shows the token once, with the prefix of the keyspace and 43 characters', async () => {
      const key = await create({ ratelimit: TEN })
      const { keys_prefix } = await admin.ok('keyspaces.get', { ksid })
      expect(key.kid).toMatch(/^k_[a-z]{22}$/)
      expect(key.token.slice(0, keys_prefix.length)).toBe(keys_prefix)
      expect(key.token.slice(keys_prefix.length)).toMatch(/^[A-Za-z0-9_-]{43}$/)
      expect(key).toEqual({
        kid: key.kid,
        ksid,
        token: key.token,
        created_at: key.created_at,
        ratelimit: { ...TEN, state: { remaining: 10, last_refilled: key.created_at } },
      })
      expect(Math.abs(Date.parse(key.created_at) - Date.now())).toBeLessThan(5_000)
      const { token: _token, ...shown } = key
      expect(await admin.ok('keys.get', { ksid, kid: key.kid })).toEqual(shown)
      expect(await admin.ok('keys.get', { ksid, token: key.token })).toEqual(shown)
    })

    it('200: no expiry, zero time, null, "" and 0 all mean that it never expires', async () => {
      for (const unset of [
        {},
        { expires_at: null, expires_in: null },
        { expires_at: '', expires_in: 0 },
        { expires_at: '0001-01-01T00:00:00Z' },
        { expires_at: '0001-01-01T02:00:00.000+02:00' },
      ]) {
        expect(await create(unset)).not.toHaveProperty('expires_at')
      }
    })

    it('200: expires_in counts milliseconds from now, up to the largest whole number', async () => {
      const { expires_at } = await create({ expires_in: 3_600_000 })
      expect(Math.abs(Date.parse(expires_at) - Date.now() - 3_600_000)).toBeLessThan(5_000)
      const far = await create({ expires_in: 2 ** 53 - 1 })
      expect(far.expires_at).toBe('9999-12-31T23:59:59.999Z')
      expect((await check(far.token)).status).toBe(200)
    })

    it.each([
      ['2999-01-01T00:00:00Z', '2999-01-01T00:00:00Z'],
      ['2999-01-01T00:00:00.123456789Z', '2999-01-01T00:00:00.123456789Z'],
      ['2999-01-01T01:30:00.50+02:00', '2998-12-31T23:30:00.50Z'],
      ['2999-01-01t00:00:00z', '2999-01-01T00:00:00Z'],
      ['2998-12-31T19:00:00-05:00', '2999-01-01T00:00:00Z'],
    ])('200: expires_at %s comes back as %s and wins over expires_in', async (expires_at, answered) => {
      expect(await create({ expires_at, expires_in: 1 })).toMatchObject({ expires_at: answered })
    })

    it('200: a past expires_at is accepted, and the key answers 419', async () => {
      const { token, expires_at } = await create({ expires_at: '2001-02-03T04:05:06Z' })
      expect(expires_at).toBe('2001-02-03T04:05:06Z')
      const answer = await check(token)
      expect(answer).toMatchObject({ status: 419, body: { error: 'key expired' } })
      expect(answer.headers['retry-after']).toBeUndefined()
    })

    it.each([
      ['soon', ['expires_at']],
      ['2999-02-29T00:00:00Z', ['expires_at']],
      ['2999-01-01 00:00:00Z', ['expires_at']],
      ['2999-01-01T00:00:00', ['expires_at']],
      ['2999-01-01T00:00:00.1234567890Z', ['expires_at']],
      ['9999-12-31T23:59:59-01:00', ['expires_at']],
      [1_700_000_000, ['expires_at']],
    ])('400: expires_at %s', async (expires_at, invalid_fields) => {
      const answer = await admin.call('keys.create', { ksid, expires_at })
      expect(answer).toMatchObject({ status: 400, body: { error: 'invalid payload', invalid_fields } })
    })

    it.each(['-1', '1.5', '"1000"', '1e400', '-1e400', '9007199254740992', 'true', '[]', '{}'])(
      '400: %s is no number of milliseconds, items or tokens',
      async (text) => {
        for (const field of ['limit', 'refill_rate', 'refill_interval']) {
          const body = `{"ksid":"${ksid}","ratelimit":{"${field}":${text}}}`
          const answer = await admin.call('keys.create', body)
          expect(answer).toMatchObject({
            status: 400,
            body: { error: 'invalid payload', invalid_fields: [field] },
          })
        }
        const answer = await admin.call('keys.create', `{"ksid":"${ksid}","expires_in":${text}}`)
        expect(answer).toMatchObject({ status: 400, body: { invalid_fields: ['expires_in'] } })
      },
    )

    it('200: takes the ends of the ranges, and 1000.0 and 1e3 for 1000', async () => {
      const ends = { limit: 2 ** 31 - 1, refill_rate: 2 ** 31 - 1, refill_interval: 2 ** 53 - 1 }
      const { ratelimit, token } = await create({ ratelimit: ends })
      expect(ratelimit).toMatchObject(ends)
      expect((await check(token)).body.ratelimit.state.remaining).toBe(2 ** 31 - 2)
      const body = `{"ksid":"${ksid}","ratelimit":{"limit":1000.0,"refill_rate":1e3,"refill_interval":-0}}`
      const rounded = await admin.ok('keys.create', body)
      expect(rounded.ratelimit).toMatchObject({ limit: 1000, refill_rate: 1000, refill_interval: 0 })
    })

    it('400: 2^31 is out of range for limit and rate; all faults are named', async () => {
      const ratelimit = { limit: 2 ** 31, refill_rate: 2 ** 31, refill_interval: -1 }
      const { status, body } = await admin.call('keys.create', { ksid: 7, expires_in: -1, ratelimit })
      expect(status).toBe(400)
      expect(body.invalid_fields.toSorted()).toEqual([
        'expires_in',
        'ksid',
        'limit',
        'refill_interval',
        'refill_rate',
      ])
      expect(body.details).toHaveLength(5)
    })

    it('400: a ratelimit that is no object, and a missing or empty ksid', async () => {
      const answer = await admin.call('keys.create', { ksid, ratelimit: 'fast' })
      expect(answer).toMatchObject({ status: 400, body: { invalid_fields: ['ratelimit'] } })
      for (const params of [{}, { ksid: '' }, { ksid: null }]) {
        const { status, body } = await admin.call('keys.create', params)
        expect([status, body.invalid_fields]).toEqual([400, ['ksid']])
      }
    })

    it('404: keyspace not found', async () => {
      const answer = await admin.call('keys.create', { ksid: 'ks_none' })
      expect(answer).toMatchObject({ status: 404, body: { error: 'keyspace not found' } })
    })

    it('460: the keyspace demands an expiry; any expiry will do', async () => {
      const strict = await createTestKeyspace(admin, { require_expiration: true })
      for (const unset of [{}, { expires_in: 0 }, { expires_at: '0001-01-01T00:00:00Z' }]) {
        const answer = await admin.call('keys.create', { ksid: strict, ...unset })
        expect(answer).toMatchObject({ status: 460, body: { error: 'invalid expiration' } })
      }
      await admin.ok('keys.create', { ksid: strict, expires_in: 1000 })
      await admin.ok('keys.create', { ksid: strict, expires_at: '2001-01-01T00:00:00Z' })
      expect((await admin.ok('keys.list', { ksid: strict })).keys).toHaveLength(2)
    })

    it('200: absent, null and zero ratelimits inherit; without any there is no limit at all', async () => {
      const limited = await createTestKeyspace(admin, { ratelimit: TEN })
      for (const ratelimit of [undefined, null, {}, { limit: 0, refill_rate: 5, refill_interval: 5 }]) {
        const key = await admin.ok('keys.create', { ksid: limited, ratelimit })
        expect(key.ratelimit).toMatchObject(TEN)
        expect(await create({ ratelimit })).not.toHaveProperty('ratelimit')
      }
      const own = await admin.ok('keys.create', { ksid: limited, ratelimit: LIFETIME })
      expect(own.ratelimit).toMatchObject(LIFETIME)
    })
  })

  describe('keys.check', () => {
    it('200: spends one token, stamps last_used and never shows the token', async () => {
      const { token, ...key } = await create({ ratelimit: TEN })
      expect(key).not.toHaveProperty('last_used')
      const { status, body } = await check(token)
      expect(status).toBe(200)
      expect(body).toEqual({
        ...key,
        last_used: body.last_used,
        ratelimit: { ...key.ratelimit, state: { remaining: 9, last_refilled: key.created_at } },
      })
      expect(Math.abs(Date.parse(body.last_used) - Date.now())).toBeLessThan(5_000)
      expect((await check(token)).body.ratelimit.state.remaining).toBe(8)
      const got = await admin.ok('keys.get', { ksid, kid: key.kid })
      expect(got.ratelimit.state.remaining).toBe(8)
      expect(got.last_used >= body.last_used).toBe(true)
    })

    it('200: a key without a limit is always good', async () => {
      const { token } = await create()
      for (let i = 0; i < 3; i++) expect((await check(token)).body).not.toHaveProperty('ratelimit')
      expect((await check(token)).body).toHaveProperty('last_used')
    })

    it('429: a bucket that never refills says no Retry-After, and refusals leave no trace', async () => {
      const { token, kid } = await create({ ratelimit: LIFETIME })
      for (let i = 0; i < 3; i++) expect((await check(token)).status).toBe(200)
      const before = await admin.ok('keys.get', { ksid, kid })
      const answer = await check(token)
      expect(answer).toMatchObject({ status: 429, body: { error: 'rate limit exceeded' } })
      expect(answer.headers).not.toHaveProperty('retry-after')
      expect(await admin.ok('keys.get', { ksid, kid })).toEqual(before)
      expect(before.ratelimit.state.remaining).toBe(0)
    })

    it('429: Retry-After is whole seconds, never too early, and keeps its word', async () => {
      const ratelimit = { limit: 1, refill_rate: 1, refill_interval: 1_500 }
      const { token, created_at } = await create({ ratelimit })
      expect((await check(token)).status).toBe(200)
      const askedMs = Date.now()
      const answer = await check(token)
      expect(answer.status).toBe(429)
      const retryAfter = Number(answer.headers['retry-after'])
      expect([1, 2]).toContain(retryAfter)
      await expect.poll(() => Date.now(), { timeout: 5_000 }).toBeGreaterThan(askedMs + retryAfter * 1000)
      const { status, body } = await check(token)
      expect(status).toBe(200)
      const sinceCreated = Date.parse(body.ratelimit.state.last_refilled) - Date.parse(created_at)
      expect(sinceCreated % 1_500).toBe(0)
      expect(sinceCreated).toBeGreaterThan(0)
    })

    it('admits exactly the limit under concurrent calls', async () => {
      const { token } = await create({ ratelimit: { ...LIFETIME, limit: 10 } })
      const answers = await Promise.all(Array.from({ length: 40 }, () => check(token)))
      const statuses = Map.groupBy(answers, ({ status }) => status)
      expect(statuses.get(200)).toHaveLength(10)
      expect(statuses.get(429)).toHaveLength(30)
      const left = statuses.get(200)?.map(({ body }) => body.ratelimit.state.remaining)
      expect(left?.toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    })

    it('404: unknown token, another keyspace and a deleted key, all in the same words', async () => {
      const { token, kid } = await create()
      const elsewhere = await createTestKeyspace(admin)
      const refusals = [await check('nonsense'), await check(token, elsewhere), await check(token, 'ks_none')]
      await admin.ok('keys.delete', { ksid, kid })
      refusals.push(await check(token))
      for (const { status, text } of refusals) {
        expect([status, text]).toEqual([404, '{"error":"key not found"}'])
      }
    })

    it('404: any text may be asked about', async () => {
      for (const token of ['ü€😀', '\u0000', '\ud800', ' ', 'x'.repeat(500_000), '__proto__']) {
        expect((await check(token)).status).toBe(404)
      }
    })

    it('400: the token is missing, empty or no text', async () => {
      for (const token of [undefined, null, '', 5, ['x']]) {
        const answer = await admin.call('keys.check', { ksid, token })
        expect(answer).toMatchObject({ status: 400, body: { invalid_fields: ['token'] } })
      }
    })
  })

  describe('keys.get', () => {
    it('200: kid wins over token; an empty kid is none', async () => {
      const [a, b] = [await create(), await create()]
      expect((await admin.ok('keys.get', { ksid, kid: a.kid, token: b.token })).kid).toBe(a.kid)
      expect((await admin.ok('keys.get', { ksid, kid: '', token: b.token })).kid).toBe(b.kid)
      const answer = await admin.call('keys.get', { ksid, kid: NO_KID, token: b.token })
      expect(answer.status).toBe(404)
    })

    it('400: neither kid nor token', async () => {
      for (const none of [{}, { kid: '', token: '' }, { kid: null }]) {
        const { status, body } = await admin.call('keys.get', { ksid, ...none })
        expect([status, body.error, body.invalid_fields]).toEqual([400, 'invalid payload', ['kid', 'token']])
      }
    })

    it('404: a key of another keyspace is not found by id or token', async () => {
      const key = await create()
      const elsewhere = await createTestKeyspace(admin)
      for (const by of [{ kid: key.kid }, { token: key.token }, { kid: NO_KID }, { token: 'nonsense' }]) {
        const { status, body } = await admin.call('keys.get', { ksid: elsewhere, ...by })
        expect([status, body]).toEqual([404, { error: 'key not found' }])
      }
    })

    it('spends nothing and shows the refilled state', async () => {
      const ratelimit = { limit: 2, refill_rate: 1, refill_interval: 400 }
      const { token, kid } = await create({ ratelimit })
      await check(token)
      const get = async () => (await admin.ok('keys.get', { ksid, kid })).ratelimit.state.remaining
      await expect.poll(get, { timeout: 5_000 }).toBe(2)
      expect((await admin.ok('keys.list', { ksid })).keys[0].ratelimit.state.remaining).toBe(2)
    })
  })

  describe('keys.list', () => {
    it('200: newest first, in pages; a page past the end is empty', async () => {
      const mine = await createTestKeyspace(admin, { ratelimit: TEN })
      const empty = await admin.ok('keys.list', { ksid: mine })
      expect(empty).toEqual({ list: { page: 1, limit: 10, last_page: 1 }, keys: [] })
      const kids: string[] = []
      for (let i = 0; i < 11; i++) kids.unshift((await admin.ok('keys.create', { ksid: mine })).kid)
      const pageOf = async (list: unknown) => {
        const answer = await admin.ok('keys.list', { ksid: mine, list })
        return { ...answer, keys: answer.keys.map(({ kid }: { kid: string }) => kid) }
      }
      const first = { list: { page: 1, limit: 10, last_page: 2 }, keys: kids.slice(0, 10) }
      for (const list of [undefined, null, {}, { page: 0, limit: 0 }, { page: 1, limit: null }]) {
        expect(await pageOf(list)).toEqual(first)
      }
      expect(await pageOf({ page: 2 })).toEqual({
        list: { page: 2, limit: 10, last_page: 2 },
        keys: [kids[10]],
      })
      expect(await pageOf({ page: 2, limit: 4 })).toEqual({
        list: { page: 2, limit: 4, last_page: 3 },
        keys: kids.slice(4, 8),
      })
      for (const page of [3, 2 ** 53 - 1]) {
        expect(await pageOf({ page })).toEqual({ list: { page, limit: 10, last_page: 2 }, keys: [] })
      }
      expect((await pageOf({ limit: 100 })).keys).toEqual(kids)
      const [key] = (await admin.ok('keys.list', { ksid: mine })).keys
      expect(key.ratelimit).toMatchObject({ ...TEN, state: { remaining: 10 } })
      expect(key).not.toHaveProperty('token')
    })

    it('400: page and limit out of range, by their own names', async () => {
      for (const [list, invalid_fields] of [
        [{ page: -1 }, ['page']],
        [{ limit: 101 }, ['limit']],
        [{ page: 'x', limit: 1.5 }, ['page', 'limit']],
        [[], ['list']],
        ['all', ['list']],
      ]) {
        const answer = await admin.call('keys.list', { ksid, list })
        expect(answer).toMatchObject({ status: 400, body: { error: 'invalid payload', invalid_fields } })
      }
    })

    it('404: keyspace not found', async () => {
      const answer = await admin.call('keys.list', { ksid: 'ks_none' })
      expect(answer).toMatchObject({ status: 404, body: { error: 'keyspace not found' } })
    })
  })

  describe('keys.delete', () => {
    it('200 null: and the token is refused from the answer on; a second delete is 404', async () => {
      const { kid, token } = await create()
      expect((await check(token)).status).toBe(200)
      const answer = await admin.call('keys.delete', { ksid, kid })
      expect([answer.status, answer.text]).toEqual([200, 'null'])
      expect((await check(token)).status).toBe(404)
      const again = await admin.call('keys.delete', { ksid, kid })
      expect(again).toMatchObject({ status: 404, body: { error: 'key not found' } })
      expect((await admin.call('keys.get', { ksid, kid })).status).toBe(404)
    })

    it('404: a key is not deleted by way of another keyspace', async () => {
      const { kid, token } = await create()
      const elsewhere = await createTestKeyspace(admin)
      for (const where of [elsewhere, 'ks_none']) {
        expect((await admin.call('keys.delete', { ksid: where, kid })).status).toBe(404)
      }
      expect((await check(token)).status).toBe(200)
    })

    it('400: kid and ksid are needed', async () => {
      const { status, body } = await admin.call('keys.delete', {})
      expect([status, body.invalid_fields]).toEqual([400, ['ksid', 'kid']])
    })
  })

  describe('keys.update', () => {
    it('200: changes what is given, keeps the rest, and what was spent stays spent', async () => {
      const { kid, token, ...key } = await create({ ratelimit: TEN, expires_at: '2999-01-01T00:00:00Z' })
      await check(token)
      const unchanged = await admin.ok('keys.update', { ksid, kid })
      expect(unchanged).toMatchObject({ kid, expires_at: key.expires_at, ratelimit: TEN })
      expect(unchanged).not.toHaveProperty('token')
      const raised = await admin.ok('keys.update', { ksid, kid, ratelimit: { ...TEN, limit: 20 } })
      expect(raised).toMatchObject({
        expires_at: key.expires_at,
        ratelimit: { limit: 20, state: { remaining: 19 } },
      })
      const free = await admin.ok('keys.update', { ksid, kid, ratelimit: null, expires_at: null })
      expect(free).not.toHaveProperty('ratelimit')
      expect(free).not.toHaveProperty('expires_at')
      expect((await check(token)).status).toBe(200)
    })

    it('200: an expiry in the past ends the key at once, a later one revives it', async () => {
      const { kid, token } = await create()
      await admin.ok('keys.update', { ksid, kid, expires_at: '2001-01-01T00:00:00Z' })
      expect((await check(token)).status).toBe(419)
      await admin.ok('keys.update', { ksid, kid, expires_in: 60_000 })
      expect((await check(token)).status).toBe(200)
    })

    it('200: a lowered limit holds at once', async () => {
      const { kid, token } = await create({ ratelimit: TEN })
      for (let i = 0; i < 5; i++) await check(token)
      const low = await admin.ok('keys.update', { ksid, kid, ratelimit: { ...TEN, limit: 3 } })
      expect(low.ratelimit.state.remaining).toBe(0)
      expect((await check(token)).status).toBe(429)
    })

    it('400, 404 and 460', async () => {
      const strict = await createTestKeyspace(admin, { require_expiration: true })
      const { kid } = await admin.ok('keys.create', { ksid: strict, expires_in: 60_000 })
      const removal = await admin.call('keys.update', { ksid: strict, kid, expires_at: null })
      expect(removal).toMatchObject({ status: 460, body: { error: 'invalid expiration' } })
      await admin.ok('keys.update', { ksid: strict, kid, ratelimit: TEN })
      const bad = await admin.call('keys.update', { ksid, kid, expires_at: 'x' })
      expect(bad).toMatchObject({ status: 400, body: { invalid_fields: ['expires_at'] } })
      for (const where of [ksid, 'ks_none']) {
        const missing = await admin.call('keys.update', { ksid: where, kid: NO_KID, expires_at: null })
        expect(missing).toMatchObject({ status: 404, body: { error: 'key not found' } })
      }
    })
  })

  describe('keys.rotate', () => {
    it('200: the new token works, the old one is dead, the bucket is the same', async () => {
      const { kid, token } = await create({ ratelimit: TEN })
      await check(token)
      const rotated = await admin.ok('keys.rotate', { ksid, kid })
      expect(rotated).toMatchObject({ kid, ksid, ratelimit: { state: { remaining: 9 } } })
      expect(rotated.token).not.toBe(token)
      expect((await check(token)).status).toBe(404)
      expect((await check(rotated.token)).body.ratelimit.state.remaining).toBe(8)
    })

    it('404: key not found', async () => {
      for (const where of [ksid, 'ks_none']) {
        const answer = await admin.call('keys.rotate', { ksid: where, kid: NO_KID })
        expect(answer).toMatchObject({ status: 404, body: { error: 'key not found' } })
      }
    })
  })

  it('tells a service key without a policy nothing about what is there', async () => {
    const key = await create()
    const stranger = await createTenant(admin, {})
    for (const [procedure, more] of [
      ['keys.create', {}],
      ['keys.check', { token: key.token }],
      ['keys.get', { kid: key.kid }],
      ['keys.list', {}],
      ['keys.delete', { kid: key.kid }],
      ['keys.update', { kid: key.kid }],
      ['keys.rotate', { kid: key.kid }],
      ['keyspaces.get', {}],
    ] as const) {
      const answers = await Promise.all(
        [ksid, 'ks_none'].map((where) => stranger.call(procedure, { ksid: where, ...more })),
      )
      for (const { status, text, headers } of answers) {
        expect([status, text]).toEqual([401, '{"error":"unauthorized"}'])
        expect(headers['www-authenticate']).toBe('Bearer')
      }
    }
    expect((await check(key.token)).status).toBe(200)
  })

  it('shows tokens in no other answer', async () => {
    const { token, kid } = await create({ ratelimit: TEN })
    const headers = { authorization: `Bearer ${admin.token}`, 'content-type': 'application/json' }
    for (const [procedure, params] of [
      ['keys.check', { ksid, token }],
      ['keys.get', { ksid, token }],
      ['keys.list', { ksid }],
      ['keys.update', { ksid, kid }],
    ] as const) {
      const body = JSON.stringify(params)
      const { text } = await send(admin.origin, `/v1/${procedure}`, { headers, body })
      expect(text).not.toContain(token)
      expect(text).not.toContain('"token"')
    }
  })
}
