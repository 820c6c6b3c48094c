import { randomBytes } from 'node:crypto'
import { beforeEach, describe, expect, it } from 'vitest'
import { createCheckKey } from '../../src/app/check-key.ts'
import { checkKeyOnce, createKey, getKey, listKeys } from '../../src/app/keys.ts'
import { applyDeclaredKeyspaces, type DeclaredKeyspace } from '../../src/app/keyspaces.ts'
import type { Management } from '../../src/app/management.ts'
import { loadPage } from '../../src/app/paging.ts'
import {
  createAdminServiceKey,
  findServiceKeyByToken,
  setServiceKeyToken,
} from '../../src/app/service-keys.ts'
import { hashToken } from '../../src/app/tokens.ts'
import { RpcError } from '../../src/domain/errors.ts'
import { FakeClock } from '../support/fakes.ts'
import { createMemoryStore, type MemoryStore } from '../support/memory-key-store.ts'

const START = 1_700_000_000_000
let clock: FakeClock
let store: MemoryStore
let deps: Management
let rootToken: string | undefined

beforeEach(() => {
  clock = new FakeClock(START)
  store = createMemoryStore(clock)
  rootToken = undefined
  deps = {
    keyStore: store,
    checkKey: createCheckKey({ records: store, buckets: store, clock }),
    clock,
    random: { bytes: (n) => randomBytes(n) },
    isExpirationRequired: () => false,
    reload: async () => ({ kind: 'done', changed: [], restartNeeded: [] }),
    findRootToken: () => rootToken,
  }
})

const declared = (letter: string, more: Partial<DeclaredKeyspace> = {}): DeclaredKeyspace => ({
  ksid: `ks_${letter}`,
  name: `keyspace ${letter}`,
  keys_prefix: `${letter}_`,
  require_expiration: false,
  ...more,
})

async function newKey(limit?: { capacity: number; rate: number; intervalMs: number }) {
  await applyDeclaredKeyspaces(store, [declared('a')], clock)
  const expiration = { at: undefined, inMs: 0 }
  const { kid, token = '' } = await createKey(deps, { ksid: 'ks_a', expiration, ownLimit: limit })
  return { kid, token, check: () => checkKeyOnce(deps, { ksid: 'ks_a', token }) }
}

async function failureOf(promise: Promise<unknown>): Promise<RpcError> {
  const error = await promise.catch((thrown: unknown) => thrown)
  if (!(error instanceof RpcError)) throw new Error('did not fail with an RpcError', { cause: error })
  return error
}

describe('a key', () => {
  it('shows the refilled bucket on the grid of its creation, and reading writes nothing', async () => {
    const { kid, check } = await newKey({ capacity: 5, rate: 2, intervalMs: 1_000 })
    clock.now = START + 300
    for (let i = 0; i < 4; i++) await check()
    const stateAt = async (now: number) => {
      clock.now = now
      const view = await getKey(deps, { ksid: 'ks_a', kid, token: undefined })
      const { keys } = await listKeys(deps, { ksid: 'ks_a', list: {} })
      expect(keys).toEqual([view])
      return view.ratelimit?.state
    }
    expect(await stateAt(START + 999)).toEqual({ remaining: 1, last_refilled: '2023-11-14T22:13:20.000Z' })
    expect(await stateAt(START + 1_000)).toEqual({ remaining: 3, last_refilled: '2023-11-14T22:13:21.000Z' })
    expect(await stateAt(START + 9_500)).toEqual({ remaining: 5, last_refilled: '2023-11-14T22:13:29.000Z' })
    expect(await stateAt(START + 500)).toEqual({ remaining: 1, last_refilled: '2023-11-14T22:13:20.000Z' })
  })

  it('is refused with a Retry-After that is rounded up, at least 1, and right to the millisecond', async () => {
    const { check } = await newKey({ capacity: 1, rate: 1, intervalMs: 2_001 })
    await check()
    for (const [afterMs, seconds] of [
      [0, '3'],
      [1, '2'],
      [1_001, '1'],
      [2_000, '1'],
    ] as const) {
      clock.now = START + afterMs
      expect((await failureOf(check())).headers).toEqual({ 'Retry-After': seconds })
    }
    clock.now = START + 2_001
    expect((await check()).ratelimit?.state).toEqual({
      remaining: 0,
      last_refilled: '2023-11-14T22:13:22.001Z',
    })
  })

  it('can be shown when the clock was set back to before it was made', async () => {
    const { kid, check } = await newKey({ capacity: 5, rate: 1, intervalMs: 2 ** 53 - 1 })
    clock.now = START - 10_000
    const view = await getKey(deps, { ksid: 'ks_a', kid, token: undefined })
    expect(view.ratelimit?.state).toEqual({ remaining: 5, last_refilled: '1970-01-01T00:00:00.000Z' })
    await check()
  })

  it('expires at its expiry, not a millisecond earlier', async () => {
    await applyDeclaredKeyspaces(store, [declared('a')], clock)
    const { token = '' } = await createKey(deps, {
      ksid: 'ks_a',
      expiration: { at: undefined, inMs: 1_000 },
      ownLimit: undefined,
    })
    clock.now = START + 999
    await checkKeyOnce(deps, { ksid: 'ks_a', token })
    clock.now = START + 1_000
    expect((await failureOf(checkKeyOnce(deps, { ksid: 'ks_a', token }))).code).toBe('key_expired')
  })

  it('reports expiry before the limit, and neither touches last_used', async () => {
    const { kid, check } = await newKey({ capacity: 1, rate: 0, intervalMs: 0 })
    await check()
    clock.now = START + 50
    expect((await failureOf(check())).code).toBe('rate_limit_exceeded')
    await store.updateKey('ks_a', kid, { expiresAt: { text: 'then', ms: START } })
    expect((await failureOf(check())).code).toBe('key_expired')
    const view = await getKey(deps, { ksid: 'ks_a', kid, token: undefined })
    expect(view.last_used).toBe('2023-11-14T22:13:20.000Z')
  })
})

describe('applyDeclaredKeyspaces', () => {
  const limited = declared('a', { ratelimit: { limit: 5, refill_rate: 1, refill_interval: 1_000 } })

  it('creates what is missing, changes what differs, and writes nothing else', async () => {
    const applied = await applyDeclaredKeyspaces(store, [limited, declared('b')], clock)
    expect(applied).toEqual({ created: ['ks_a', 'ks_b'], updated: [] })
    expect(await store.findKeyspace('ks_a')).toEqual({
      ksid: 'ks_a',
      name: 'keyspace a',
      keysPrefix: 'a_',
      limit: { capacity: 5, rate: 1, intervalMs: 1_000 },
      requireExpiration: false,
      createdAtMs: START,
    })
    store.calls.length = 0
    const again = await applyDeclaredKeyspaces(store, [limited, declared('b')], clock)
    expect(again).toEqual({ created: [], updated: [] })
    expect(new Set(store.calls)).toEqual(new Set(['findKeyspace']))

    const changed = [declared('a'), declared('b', { require_expiration: true })]
    expect(await applyDeclaredKeyspaces(store, changed, clock)).toEqual({
      created: [],
      updated: ['ks_a', 'ks_b'],
    })
    expect(await store.findKeyspace('ks_a')).toMatchObject({ limit: undefined })
    expect(await store.findKeyspace('ks_b')).toMatchObject({ requireExpiration: true })
  })

  it('brings a deleted keyspace back empty, and leaves undeclared ones alone', async () => {
    const { token } = await newKey()
    await applyDeclaredKeyspaces(store, [declared('b')], clock)
    await store.deleteKeyspace('ks_a')
    await applyDeclaredKeyspaces(store, [declared('a')], clock)
    expect((await listKeys(deps, { ksid: 'ks_a', list: {} })).keys).toEqual([])
    expect((await failureOf(checkKeyOnce(deps, { ksid: 'ks_a', token }))).code).toBe('key_not_found')
    expect(await store.findKeyspace('ks_b')).toBeDefined()
  })

  it('names both keyspaces where a name or prefix is taken', async () => {
    await applyDeclaredKeyspaces(store, [declared('a')], clock)
    for (const [clash, shared] of [
      [{ name: 'keyspace a' }, 'name'],
      [{ keys_prefix: 'a_' }, 'prefix'],
      [{ name: 'keyspace a', keys_prefix: 'a_' }, 'name and prefix'],
    ] as const) {
      const attempt = applyDeclaredKeyspaces(store, [declared('c', clash)], clock)
      await expect(attempt).rejects.toThrow(new RegExp(`ks_c .* same ${shared} as keyspace ks_a`))
    }
    expect(await store.findKeyspace('ks_c')).toBeUndefined()
  })

  it('lets declared keyspaces hand a name on, whatever their order', async () => {
    await applyDeclaredKeyspaces(store, [declared('a'), declared('b')], clock)
    const handed = [declared('a', { name: 'keyspace b' }), declared('b', { name: 'third' })]
    const { updated } = await applyDeclaredKeyspaces(store, handed, clock)
    expect(updated).toEqual(['ks_b', 'ks_a'])
    expect(await store.findKeyspace('ks_a')).toMatchObject({ name: 'keyspace b' })
  })

  it('passes on what the store fails with', async () => {
    store.failure = new Error('disk')
    await expect(applyDeclaredKeyspaces(store, [declared('a')], clock)).rejects.toThrow('disk')
  })
})

describe('loadPage', () => {
  it('asks stores only for pages whose offset is exact, and echoes what was asked', async () => {
    const asked: unknown[] = []
    const { list, items } = await loadPage({ page: 2 ** 53 - 1, limit: 100 }, async (page) => {
      asked.push(page)
      return { items: [], total: 101 }
    })
    expect(asked).toEqual([{ page: 2 ** 31 - 1, limit: 100 }])
    expect(list).toEqual({ page: 2 ** 53 - 1, limit: 100, last_page: 2 })
    expect(items).toEqual([])
  })
})

describe('service keys', () => {
  it('minted for the command line can be presented at once', async () => {
    const { skid, token = '' } = await createAdminServiceKey(deps, {
      admin: true,
      roles: ['SCRIPT'],
      description: 'by hand',
    })
    const found = await findServiceKeyByToken(deps, hashToken(token))
    expect(found).toMatchObject({ skid, admin: true, description: 'by hand', createdAtMs: START })
    const plain = await createAdminServiceKey(deps, { admin: false, roles: [], description: '' })
    expect(await store.findServiceKey(plain.skid)).toMatchObject({ admin: false, policies: new Map() })
  })

  it('never stand in for the root token, which works while the configuration has it', async () => {
    const { skid, token = '' } = await createAdminServiceKey(deps, {
      admin: false,
      roles: [],
      description: '',
    })
    rootToken = token
    expect((await findServiceKeyByToken(deps, hashToken(token)))?.skid).toBe('sk_root')
    const failure = await failureOf(setServiceKeyToken(deps, { skid, token }))
    expect(failure.code).toBe('service_key_exists')
    rootToken = undefined
    expect((await findServiceKeyByToken(deps, hashToken(token)))?.skid).toBe(skid)
  })
})
