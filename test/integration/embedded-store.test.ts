import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createCheckKey } from '../../src/app/check-key.ts'
import { databaseFile } from '../../src/stores/embedded/database.ts'
import { MIGRATIONS } from '../../src/stores/embedded/schema.ts'
import type { EmbeddedStore } from '../../src/stores/embedded/store.ts'
import { hash } from '../contract/key-store.contract.ts'
import { createTempDirectory, openTestStore } from '../support/embedded-store.ts'
import { FakeClock } from '../support/fakes.ts'

const START = 1_700_000_000_000
const KEYSPACE = {
  ksid: 'ks_a',
  name: 'a',
  keysPrefix: 'a_',
  limit: undefined,
  requireExpiration: false,
  createdAtMs: START,
}
const LIFETIME = { capacity: 5, rate: 0, intervalMs: 0 }

describe('the embedded store', () => {
  let clock: FakeClock
  let directory: string
  let removeDirectory: () => void
  let open: EmbeddedStore[]

  beforeEach(() => {
    clock = new FakeClock(START)
    const temp = createTempDirectory()
    directory = temp.directory
    removeDirectory = temp.remove
    open = []
  })
  afterEach(async () => {
    await Promise.allSettled(open.map((store) => store.close()))
    removeDirectory()
  })

  async function openStore(options: { slots?: number; keepExpiredMs?: number } = {}) {
    const store = await openTestStore(directory, clock, options)
    open.push(store)
    return store
  }
  const close = (store: EmbeddedStore) => {
    open.splice(open.indexOf(store), 1)
    return store.close()
  }
  const createKeys = (store: EmbeddedStore, count: number, ksid = 'ks_a') =>
    Promise.all(
      Array.from({ length: count }, (_, n) =>
        store.keyStore.createKey({
          kid: `k_${ksid}_${n}`,
          ksid,
          tokenHash: hash(`${ksid} ${n}`),
          createdAtMs: START,
          expiresAt: undefined,
          ownLimit: LIFETIME,
        }),
      ),
    )
  const until = async (done: () => boolean) => {
    const deadline = performance.now() + 10_000
    while (!done()) {
      if (performance.now() > deadline) throw new Error('it did not happen within 10 s')
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }
  const countRows = (table: string) => {
    const database = new DatabaseSync(databaseFile(directory), { readOnly: true })
    const row = database.prepare(`SELECT count(*) AS n FROM ${table}`).get()
    database.close()
    return Number(row?.['n'])
  }

  describe('opening', () => {
    it('creates directory and database on the first start, for the owner only', async () => {
      directory = path.join(directory, 'deep', 'er')
      await openStore()
      expect(existsSync(databaseFile(directory))).toBe(true)
      expect(statSync(directory).mode & 0o777).toBe(0o700)
    })

    it('refuses a directory that another process has, and names the holder', async () => {
      await openStore()
      await expect(openTestStore(directory, clock)).rejects.toThrow(
        new RegExp(`is in use by process ${process.pid} on .*store\\.path`),
      )
    })

    it('opens a directory whose holder was killed', async () => {
      const script = `
        import { lockDirectory } from ${JSON.stringify(new URL('../../src/stores/embedded/database.ts', import.meta.url).href)}
        lockDirectory(${JSON.stringify(directory)}); console.log('locked'); setInterval(() => {}, 1000)`
      const holder = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      await once(holder.stdout, 'data')
      await expect(openTestStore(directory, clock)).rejects.toThrow(`is in use by process ${holder.pid} `)
      holder.kill('SIGKILL')
      await once(holder, 'exit')
      await openStore()
    })

    const refusals: [name: string, prepare: (file: string) => void, message: RegExp][] = [
      [
        'text instead of a database',
        (file) => writeFileSync(file, 'these are not the rows you look for'),
        /is not a SQLite database, or it is damaged.*left as it is/,
      ],
      [
        'the database of another program',
        (file) => {
          const database = new DatabaseSync(file)
          database.exec('CREATE TABLE recipe (name TEXT); INSERT INTO recipe VALUES (1)')
          database.close()
        },
        /is a database of another program.*left as it is/,
      ],
      [
        'a newer format',
        (file) => {
          const database = new DatabaseSync(file)
          database.exec(
            `PRAGMA application_id = 0x44524950; PRAGMA user_version = ${MIGRATIONS.length + 7}; CREATE TABLE future (a)`,
          )
          database.close()
        },
        new RegExp(`written by a newer Dripgate.*${MIGRATIONS.length + 7}.*left as it is`),
      ],
    ]
    it.each(refusals)('refuses %s, and leaves it as it is', async (_name, prepare, message) => {
      const file = databaseFile(directory)
      prepare(file)
      const before = readFileSync(file)
      await expect(openTestStore(directory, clock)).rejects.toThrow(message)
      expect(readFileSync(file).equals(before)).toBe(true)
    })

    it.each([
      ['cut off', (file: string) => truncateSync(file, 8_192)],
      ['overwritten in the middle', (file: string) => overwrite(file, 4_096, 12_288)],
    ])('refuses a database that was %s, and leaves it as it is', async (_name, damage) => {
      const store = await openStore()
      await store.keyStore.createKeyspace(KEYSPACE)
      await createKeys(store, 200)
      await close(store)
      const file = databaseFile(directory)
      damage(file)
      const before = readFileSync(file)
      await expect(openTestStore(directory, clock)).rejects.toThrow(/is damaged.*left as it is.*backup/)
      expect(readFileSync(file).equals(before)).toBe(true)
    })

    it('says which path cannot be made', async () => {
      const file = path.join(directory, 'file')
      writeFileSync(file, '')
      await expect(openTestStore(path.join(file, 'data'), clock)).rejects.toThrow(
        /cannot create the store directory .*file\/data/,
      )
    })

    it.skipIf(process.getuid?.() === 0 && !canDropRights())('says which path cannot be written', async () => {
      mkdirSync(path.join(directory, 'readonly'))
      chmodSync(path.join(directory, 'readonly'), 0o555)
      chmodSync(directory, 0o755)
      const message = openAsNobody(path.join(directory, 'readonly'))
      expect(message).toMatch(/cannot (write to|lock the store directory) .*readonly/)
    })
  })

  describe('slots', () => {
    it('are taken from keys that were not used lately, and no spending is lost by it', async () => {
      const store = await openStore({ slots: 2_048 })
      await store.keyStore.createKeyspace(KEYSPACE)
      await createKeys(store, 6_000)
      const check = createCheckKey({ records: store.records, buckets: store.table, clock })
      const accepts = new Set(['ks_a'])
      const admitted = new Array<number>(6_000).fill(0)
      for (let round = 0; round < 7; round++) {
        for (let n = 0; n < 6_000; n++) {
          clock.now += 1
          const decision = await check(hash(`ks_a ${n}`), accepts, 1)
          if (decision.kind === 'allowed') admitted[n] = (admitted[n] ?? 0) + 1
          if (n % 500 === 0) await new Promise((resolve) => setImmediate(resolve))
        }
      }
      expect(new Set(admitted)).toEqual(new Set([5]))
      expect(store.slotsUsed()).toBeLessThanOrEqual(2_048)
    }, 30_000)
  })

  describe('sweeping', () => {
    it('removes the keys of a deleted keyspace piece by piece, and only those', async () => {
      const store = await openStore()
      await store.keyStore.createKeyspace(KEYSPACE)
      await store.keyStore.createKeyspace({ ...KEYSPACE, ksid: 'ks_b', name: 'b', keysPrefix: 'b_' })
      await createKeys(store, 3_500, 'ks_a')
      await createKeys(store, 10, 'ks_b')
      await store.keyStore.deleteKeyspace('ks_a')
      expect((await store.keyStore.listKeys('ks_a', { page: 1, limit: 10 })).total).toBe(0)
      await until(() => countRows('key') === 10 && countRows('keyspace') === 1)
      expect((await store.keyStore.listKeys('ks_b', { page: 1, limit: 10 })).total).toBe(10)
    })

    it('removes expired keys only after the time that they are kept', async () => {
      const store = await openStore({ keepExpiredMs: 60_000 })
      await store.keyStore.createKeyspace(KEYSPACE)
      const expiringAt = (n: number, ms: number) =>
        store.keyStore.createKey({
          kid: `k_${n}`,
          ksid: 'ks_a',
          tokenHash: hash(`expiring ${n}`),
          createdAtMs: START,
          expiresAt: { text: new Date(ms).toISOString(), ms },
          ownLimit: undefined,
        })
      await expiringAt(1, Date.now() - 120_000)
      await expiringAt(2, Date.now() - 30_000)
      await until(() => countRows('key') === 1)
      expect(await store.keyStore.findKey('ks_a', 'k_2')).toBeDefined()
      expect((await store.keyStore.listKeys('ks_a', { page: 1, limit: 10 })).total).toBe(1)
    })
  })

  it.skipIf(!canMount())(
    'refuses a write with store_full when the disk is full, loses nothing, and checks go on',
    async () => {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', directory])
      try {
        const store = await openStore()
        await store.keyStore.createKeyspace(KEYSPACE)
        let created = 0
        let refusal: unknown
        while (refusal === undefined && created < 50_000) {
          await store.keyStore
            .createKey({
              kid: `k_${created}`,
              ksid: 'ks_a',
              tokenHash: hash(`t${created}`),
              createdAtMs: START,
              expiresAt: undefined,
              ownLimit: LIFETIME,
            })
            .then(
              () => created++,
              (error: unknown) => (refusal = error),
            )
        }
        expect(refusal).toMatchObject({ code: 'store_full' })
        const check = createCheckKey({ records: store.records, buckets: store.table, clock })
        expect((await check(hash('t0'), new Set(['ks_a']), 1)).kind).toBe('allowed')
        expect((await store.keyStore.listKeys('ks_a', { page: 1, limit: 1 })).total).toBe(created)
        await store.keyStore.deleteKeyspace('ks_a').catch(() => false)
        await close(store).catch(() => {})
      } finally {
        await Promise.allSettled(open.splice(0).map((store) => store.close()))
        execFileSync('umount', [directory])
      }
    },
  )
})

function overwrite(file: string, from: number, to: number): void {
  const bytes = readFileSync(file)
  bytes.fill(0xab, from, to)
  writeFileSync(file, bytes)
}

function canMount(): boolean {
  if (process.getuid?.() !== 0) return false
  const { directory, remove } = createTempDirectory()
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', directory], { stdio: 'ignore' })
    execFileSync('umount', [directory], { stdio: 'ignore' })
    return true
  } catch {
    return false
  } finally {
    remove()
  }
}

function canDropRights(): boolean {
  return process.platform === 'linux'
}

/** Opens the store as a user without rights (root may write everywhere) and gives the error. */
function openAsNobody(directory: string): string {
  const module = new URL('../../src/stores/embedded/database.ts', import.meta.url).href
  const script = `
    import { lockDirectory } from ${JSON.stringify(module)}
    if (process.getuid() === 0) { process.setgid(65534); process.setuid(65534) }
    try { lockDirectory(${JSON.stringify(directory)}); console.log('opened') } catch (error) { console.log(error.message) }`
  return execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
}
