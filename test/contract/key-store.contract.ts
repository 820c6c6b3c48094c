import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type CheckKey, createCheckKey } from '../../src/app/check-key.ts'
import type { Limit } from '../../src/domain/bucket.ts'
import type { Keyspace } from '../../src/domain/key.ts'
import type { ServiceKey } from '../../src/domain/service-key.ts'
import type { BucketStore, KeyRecord, KeyStore, NewKey, RecordSource } from '../../src/ports/stores.ts'
import { FakeClock } from '../support/fakes.ts'

/** What every store must do, whatever it is made of. */
export interface StoreUnderTest {
  readonly keyStore: KeyStore
  readonly records: RecordSource<KeyRecord>
  readonly buckets: BucketStore<KeyRecord>
  /** Closes it cleanly and opens it again on what was stored. */
  reopen(): Promise<StoreUnderTest>
  close(): Promise<void>
}

export const hash = (token: string) => createHash('sha256').update(token).digest('hex')

const START = 1_700_000_000_000
const TEN: Limit = { capacity: 10, rate: 1, intervalMs: 1_000 }
const LIFETIME: Limit = { capacity: 5, rate: 0, intervalMs: 0 }

export function describeKeyStore(name: string, open: (clock: FakeClock) => Promise<StoreUnderTest>): void {
  describe(`key store: ${name}`, () => {
    let clock: FakeClock
    let store: StoreUnderTest
    let check: CheckKey

    function use(opened: StoreUnderTest): void {
      store = opened
      check = createCheckKey({ records: opened.records, buckets: opened.buckets, clock })
    }
    beforeEach(async () => {
      clock = new FakeClock(START)
      use(await open(clock))
    })
    afterEach(() => store.close())

    const keyspaceOf = (letter: string, limit?: Limit): Keyspace => ({
      ksid: `ks_${letter}`,
      name: `keyspace ${letter}`,
      keysPrefix: `${letter}_`,
      limit,
      requireExpiration: false,
      createdAtMs: START,
    })
    const keyOf = (n: number | string, more: Partial<NewKey> = {}): NewKey => ({
      kid: `k_${n}`,
      ksid: 'ks_a',
      tokenHash: hash(`token ${n}`),
      createdAtMs: START,
      expiresAt: undefined,
      ownLimit: undefined,
      ...more,
    })
    const serviceKeyOf = (skid: string, more: Partial<ServiceKey> = {}): ServiceKey => ({
      skid,
      description: `about ${skid}`,
      admin: false,
      policies: new Map([['ks_a', { read: true, write: false }]]),
      roles: [],
      createdAtMs: START,
      ...more,
    })
    const checkToken = async (n: number | string, cost = 1, ksid = 'ks_a') =>
      check(hash(`token ${n}`), new Set([ksid]), cost)
    const admittedOf = async (tries: number, n: number | string = 1) => {
      let admitted = 0
      for (let i = 0; i < tries; i++) {
        const decision = await checkToken(n)
        if (decision.kind === 'allowed') admitted++
      }
      return admitted
    }

    describe('keyspaces', () => {
      it('are found as they were created, and survive a restart', async () => {
        const keyspace = { ...keyspaceOf('a', TEN), requireExpiration: true }
        await store.keyStore.createKeyspace(keyspace)
        expect(await store.keyStore.findKeyspace('ks_a')).toEqual(keyspace)
        use(await store.reopen())
        expect(await store.keyStore.findKeyspace('ks_a')).toEqual(keyspace)
      })

      it.each(['ksid', 'name', 'keysPrefix'] as const)('have a unique %s', async (field) => {
        const first = keyspaceOf('a')
        await store.keyStore.createKeyspace(first)
        const second = { ...keyspaceOf('b'), [field]: first[field] }
        await expect(store.keyStore.createKeyspace(second)).rejects.toMatchObject({ code: 'keyspace_exists' })
        expect((await store.keyStore.listKeyspaces({ page: 1, limit: 10 })).total).toBe(1)
      })

      it('are listed by name, in pages, and only those that are visible', async () => {
        for (const letter of ['c', 'a', 'b']) await store.keyStore.createKeyspace(keyspaceOf(letter))
        const list = async (page: number, visible?: ReadonlySet<string>) => {
          const { items, total } = await store.keyStore.listKeyspaces({ page, limit: 2 }, visible)
          return { ksids: items.map((item) => item.ksid), total }
        }
        expect(await list(1)).toEqual({ ksids: ['ks_a', 'ks_b'], total: 3 })
        expect(await list(2)).toEqual({ ksids: ['ks_c'], total: 3 })
        expect(await list(3)).toEqual({ ksids: [], total: 3 })
        expect(await list(1, new Set(['ks_c', 'ks_nowhere']))).toEqual({ ksids: ['ks_c'], total: 1 })
        expect(await list(1, new Set())).toEqual({ ksids: [], total: 0 })
      })

      it('are updated field by field, with names and prefixes kept unique', async () => {
        await store.keyStore.createKeyspace(keyspaceOf('a', TEN))
        await store.keyStore.createKeyspace(keyspaceOf('b'))
        const updated = await store.keyStore.updateKeyspace('ks_a', { name: 'new name' })
        expect(updated).toEqual({ ...keyspaceOf('a', TEN), name: 'new name' })
        const taken = store.keyStore.updateKeyspace('ks_b', { keysPrefix: 'a_' })
        await expect(taken).rejects.toMatchObject({ code: 'keyspace_exists' })
        expect(await store.keyStore.updateKeyspace('ks_nowhere', { name: 'x' })).toBeUndefined()
        expect((await store.keyStore.updateKeyspace('ks_a', { limit: null }))?.limit).toBeUndefined()
      })

      it('take their keys and policies with them, and free their names', async () => {
        await store.keyStore.createKeyspace(keyspaceOf('a', TEN))
        await store.keyStore.createKey(keyOf(1))
        await store.keyStore.createServiceKey(serviceKeyOf('sk_one'), hash('service token'))
        expect((await checkToken(1)).kind).toBe('allowed')
        expect(await store.keyStore.deleteKeyspace('ks_a')).toBe(true)
        expect((await checkToken(1)).kind).toBe('unknown')
        expect(await store.keyStore.findKeyspace('ks_a')).toBeUndefined()
        expect(await store.keyStore.findKey('ks_a', 'k_1')).toBeUndefined()
        expect((await store.keyStore.findServiceKey('sk_one'))?.policies.size).toBe(0)
        expect(await store.keyStore.deleteKeyspace('ks_a')).toBe(false)
        await store.keyStore.createKeyspace(keyspaceOf('a'))
        expect((await store.keyStore.listKeys('ks_a', { page: 1, limit: 10 })).total).toBe(0)
        expect((await checkToken(1)).kind).toBe('unknown')
      })
    })

    describe('keys', () => {
      beforeEach(() => store.keyStore.createKeyspace(keyspaceOf('a', TEN)))

      it('are found by id and by token, with the limit in force', async () => {
        const expiresAt = { text: '2030-01-01T00:00:00.123456789Z', ms: Date.UTC(2030, 0, 1) + 124 }
        await store.keyStore.createKey(keyOf(1, { expiresAt }))
        await store.keyStore.createKey(keyOf(2, { ownLimit: LIFETIME }))
        const inherits = await store.keyStore.findKey('ks_a', 'k_1')
        expect(inherits).toMatchObject({
          key: { kid: 'k_1', ownLimit: undefined, limit: TEN, expiresAt },
          bucket: undefined,
          lastUsedMs: undefined,
        })
        expect((await store.keyStore.findKeyByToken(hash('token 2')))?.key).toMatchObject({
          kid: 'k_2',
          ownLimit: LIFETIME,
          limit: LIFETIME,
        })
        expect(await store.keyStore.findKey('ks_b', 'k_1')).toBeUndefined()
        expect(await store.keyStore.findKeyByToken(hash('token 3'))).toBeUndefined()
      })

      it('need a keyspace', async () => {
        const orphan = store.keyStore.createKey(keyOf(1, { ksid: 'ks_nowhere' }))
        await expect(orphan).rejects.toMatchObject({ code: 'keyspace_not_found' })
      })

      it('are listed newest first, with a total that follows creates and deletes', async () => {
        for (let n = 1; n <= 5; n++) await store.keyStore.createKey(keyOf(n))
        await store.keyStore.deleteKey('ks_a', 'k_4')
        const { items, total } = await store.keyStore.listKeys('ks_a', { page: 1, limit: 3 })
        expect(items.map((item) => item.key.kid)).toEqual(['k_5', 'k_3', 'k_2'])
        expect(total).toBe(4)
        expect(
          (await store.keyStore.listKeys('ks_a', { page: 2, limit: 3 })).items.map((item) => item.key.kid),
        ).toEqual(['k_1'])
      })

      it('created at the same moment are all there', async () => {
        await Promise.all(Array.from({ length: 500 }, (_, n) => store.keyStore.createKey(keyOf(n))))
        expect((await store.keyStore.listKeys('ks_a', { page: 1, limit: 1 })).total).toBe(500)
      })

      it('are refused from the answer to their delete on', async () => {
        await store.keyStore.createKey(keyOf(1))
        expect((await checkToken(1)).kind).toBe('allowed')
        expect(await store.keyStore.deleteKey('ks_a', 'k_1')).toBe(true)
        expect((await checkToken(1)).kind).toBe('unknown')
        expect(await store.keyStore.deleteKey('ks_a', 'k_1')).toBe(false)
      })

      it('change their token with the answer, and keep their bucket', async () => {
        await store.keyStore.createKey(keyOf(1, { ownLimit: LIFETIME }))
        expect(await admittedOf(2)).toBe(2)
        expect(await store.keyStore.setKeyToken('ks_a', 'k_1', hash('token new'))).toBe(true)
        expect((await checkToken(1)).kind).toBe('unknown')
        expect(await admittedOf(9, 'new')).toBe(3)
        expect(await store.keyStore.setKeyToken('ks_a', 'k_9', hash('x'))).toBe(false)
      })

      it('expire, by a changed expiry too', async () => {
        await store.keyStore.createKey(keyOf(1))
        expect((await checkToken(1)).kind).toBe('allowed')
        await store.keyStore.updateKey('ks_a', 'k_1', {
          expiresAt: { text: '2023-11-14T22:13:21Z', ms: START + 1_000 },
        })
        expect((await checkToken(1)).kind).toBe('allowed')
        clock.now = START + 1_000
        expect(await checkToken(1)).toMatchObject({ kind: 'expired', kid: 'k_1' })
        await store.keyStore.updateKey('ks_a', 'k_1', { expiresAt: null })
        expect((await checkToken(1)).kind).toBe('allowed')
      })
    })

    describe('buckets', () => {
      beforeEach(() => store.keyStore.createKeyspace(keyspaceOf('a', TEN)))

      it('admit their limit, refill on the grid of the creation, and stamp last_used', async () => {
        await store.keyStore.createKey(keyOf(1))
        expect(await admittedOf(15)).toBe(10)
        clock.now = START + 2_999
        expect(await admittedOf(5)).toBe(2)
        const stored = await store.keyStore.findKey('ks_a', 'k_1')
        expect(stored).toMatchObject({
          bucket: { remaining: 0, lastRefilledMs: START + 2_000 },
          lastUsedMs: START + 2_999,
        })
        expect(await checkToken(1)).toMatchObject({ kind: 'limited', retryAfterMs: 1, remaining: 0 })
      })

      it('are taken from as a whole or not at all', async () => {
        await store.keyStore.createKey(keyOf(1))
        expect(await checkToken(1, 7)).toMatchObject({ kind: 'allowed', remaining: 3 })
        expect(await checkToken(1, 4)).toMatchObject({ kind: 'limited', remaining: 3 })
        expect(await checkToken(1, 3)).toMatchObject({ kind: 'allowed', remaining: 0 })
        expect(await checkToken(1, 0)).toMatchObject({ kind: 'allowed', remaining: 0 })
        expect(await checkToken(1, 11)).toMatchObject({ kind: 'limited', retryAfterMs: undefined })
      })

      it('survive a clean restart, down to the fraction', async () => {
        await store.keyStore.createKey(keyOf(1))
        await store.keyStore.createKey(keyOf(2, { ownLimit: LIFETIME }))
        expect(await admittedOf(8, 1)).toBe(8)
        expect(await admittedOf(9, 2)).toBe(5)
        clock.now = START + 1_500
        use(await store.reopen())
        expect(await checkToken(1)).toMatchObject({
          kind: 'allowed',
          remaining: 2,
          lastRefilledMs: START + 1_000,
        })
        expect((await checkToken(2)).kind).toBe('limited')
        expect((await store.keyStore.findKey('ks_a', 'k_2'))?.lastUsedMs).toBe(START)
      })

      it('keep what was used when the limit of the key changes', async () => {
        await store.keyStore.createKey(keyOf(1, { ownLimit: LIFETIME }))
        expect(await admittedOf(3)).toBe(3)
        await store.keyStore.updateKey('ks_a', 'k_1', { ownLimit: { ...LIFETIME, capacity: 8 } })
        expect(await admittedOf(9)).toBe(5)
        await store.keyStore.updateKey('ks_a', 'k_1', { ownLimit: { ...LIFETIME, capacity: 2 } })
        expect(await admittedOf(9)).toBe(0)
        await store.keyStore.updateKey('ks_a', 'k_1', { ownLimit: { ...LIFETIME, capacity: 9 } })
        expect(await admittedOf(9)).toBe(1)
      })

      it.each([false, true])(
        'keep what was used when the limit of the keyspace changes (restarted before: %s)',
        async (restarted) => {
          await store.keyStore.updateKeyspace('ks_a', { limit: LIFETIME })
          await store.keyStore.createKey(keyOf(1))
          await store.keyStore.createKey(keyOf(2, { ownLimit: { ...LIFETIME, capacity: 6 } }))
          expect(await admittedOf(3, 1)).toBe(3)
          expect(await admittedOf(3, 2)).toBe(3)
          if (restarted) use(await store.reopen())
          await store.keyStore.updateKeyspace('ks_a', { limit: { ...LIFETIME, capacity: 7 } })
          expect(await admittedOf(9, 1)).toBe(4)
          expect(await admittedOf(9, 2)).toBe(3)
        },
      )

      it('are not there for keys without a limit, whose use is still stamped', async () => {
        await store.keyStore.createKeyspace(keyspaceOf('b'))
        await store.keyStore.createKey(keyOf(1, { ksid: 'ks_b' }))
        expect(await checkToken(1, 1, 'ks_b')).toMatchObject({ kind: 'allowed', limit: undefined })
        expect(await store.keyStore.findKey('ks_b', 'k_1')).toMatchObject({
          bucket: undefined,
          lastUsedMs: START,
        })
        use(await store.reopen())
        expect((await store.keyStore.findKey('ks_b', 'k_1'))?.lastUsedMs).toBe(START)
      })

      it('of another keyspace are not touched', async () => {
        await store.keyStore.createKey(keyOf(1, { ownLimit: LIFETIME }))
        expect((await checkToken(1, 1, 'ks_b')).kind).toBe('unknown')
        expect(await admittedOf(9)).toBe(5)
      })

      it('go on refilling when the clock was set back over a restart', async () => {
        await store.keyStore.createKey(keyOf(1))
        clock.now = START + 3_600_000
        expect(await admittedOf(15)).toBe(10)
        const closing = store.reopen()
        clock.now = START + 10
        use(await closing)
        expect(await admittedOf(1)).toBe(0)
        clock.now = START + 1_000
        expect(await admittedOf(2)).toBe(1)
      })
    })

    describe('service keys', () => {
      beforeEach(() => store.keyStore.createKeyspace(keyspaceOf('a')))

      it('hold no policy for a keyspace that is not there', async () => {
        const policies = new Map([['ks_nowhere', { read: true, write: true }]])
        const created = store.keyStore.createServiceKey(serviceKeyOf('sk_one', { policies }), hash('t1'))
        await expect(created).rejects.toMatchObject({ code: 'keyspace_not_found' })
        expect(await store.keyStore.findServiceKey('sk_one')).toBeUndefined()
        await store.keyStore.createServiceKey(serviceKeyOf('sk_one'), hash('t1'))
        const updated = store.keyStore.updateServiceKey('sk_one', { policies })
        await expect(updated).rejects.toMatchObject({ code: 'keyspace_not_found' })
        expect(await store.keyStore.findServiceKey('sk_one')).toEqual(serviceKeyOf('sk_one'))
      })

      it('are found by id and by token, with policies and roles', async () => {
        const policies = new Map([
          ['*', { read: true, write: true }],
          ['ks_a', { read: false, write: true }],
        ])
        const serviceKey = serviceKeyOf('sk_one', { admin: true, policies, roles: ['SCRIPT'] })
        await store.keyStore.createServiceKey(serviceKey, hash('t1'))
        expect(await store.keyStore.findServiceKey('sk_one')).toEqual(serviceKey)
        use(await store.reopen())
        expect(await store.keyStore.findServiceKeyByToken(hash('t1'))).toEqual(serviceKey)
        expect(await store.keyStore.findServiceKeyByToken(hash('t2'))).toBeUndefined()
      })

      it('never share an id or a token, not even with a deleted id', async () => {
        await store.keyStore.createServiceKey(serviceKeyOf('sk_one'), hash('t1'))
        const again = (skid: string, token: string) =>
          store.keyStore.createServiceKey(serviceKeyOf(skid), hash(token))
        await expect(again('sk_one', 't2')).rejects.toMatchObject({ code: 'service_key_exists' })
        await expect(again('sk_two', 't1')).rejects.toMatchObject({ code: 'service_key_exists' })
        expect(await store.keyStore.deleteServiceKey('sk_one')).toBe(true)
        await expect(again('sk_one', 't2')).rejects.toMatchObject({ code: 'service_key_exists' })
        await again('sk_two', 't1')
        expect(await store.keyStore.deleteServiceKey('sk_one')).toBe(false)
      })

      it('change their token with the answer, unless it is in use', async () => {
        await store.keyStore.createServiceKey(serviceKeyOf('sk_one'), hash('t1'))
        await store.keyStore.createServiceKey(serviceKeyOf('sk_two'), hash('t2'))
        expect(await store.keyStore.setServiceKeyToken('sk_one', hash('t3'))).toBe(true)
        expect(await store.keyStore.findServiceKeyByToken(hash('t1'))).toBeUndefined()
        expect((await store.keyStore.findServiceKeyByToken(hash('t3')))?.skid).toBe('sk_one')
        await expect(store.keyStore.setServiceKeyToken('sk_one', hash('t2'))).rejects.toMatchObject({
          code: 'service_key_exists',
        })
        expect(await store.keyStore.setServiceKeyToken('sk_none', hash('t9'))).toBe(false)
      })

      it('are listed oldest first and updated field by field', async () => {
        for (const skid of ['sk_b', 'sk_a', 'sk_c'])
          await store.keyStore.createServiceKey(serviceKeyOf(skid), hash(skid))
        await store.keyStore.deleteServiceKey('sk_a')
        const { items, total } = await store.keyStore.listServiceKeys({ page: 1, limit: 10 })
        expect(items.map((item) => item.skid)).toEqual(['sk_b', 'sk_c'])
        expect(total).toBe(2)
        const updated = await store.keyStore.updateServiceKey('sk_b', {
          roles: ['SCRIPT'],
          policies: new Map(),
        })
        expect(updated).toEqual(serviceKeyOf('sk_b', { roles: ['SCRIPT'], policies: new Map() }))
        expect(await store.keyStore.updateServiceKey('sk_a', { admin: true })).toBeUndefined()
      })
    })
  })
}
