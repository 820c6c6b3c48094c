import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { CacheEntry, CacheStore } from '../../src/ports/cache-store.ts'
import { until } from '../support/redis.ts'
import { unique } from '../support/rpc-client.ts'

/** What every cache database must do, whatever it is made of. Time is real: servers keep their own. */
export interface CacheUnderTest {
  readonly cacheStore: CacheStore
  /** Closes it cleanly and opens it again on what was stored. */
  reopen(): Promise<CacheUnderTest>
  close(): Promise<void>
}

const MANY = 10_000
const BYTES_MAX = 16 * 1024 * 1024

export function describeCacheStore(name: string, open: () => Promise<CacheUnderTest>): void {
  describe(`cache store: ${name}`, () => {
    let opened: CacheUnderTest
    let tag: string
    beforeAll(async () => {
      opened = await open()
    }, 60_000)
    afterAll(() => opened?.close())
    beforeEach(() => {
      tag = unique()
    })

    const keyOf = (text: string | number) => `${tag}:${text}`
    const entryOf = (text: string | number, more: Partial<CacheEntry> = {}): CacheEntry => ({
      key: keyOf(text),
      value: `value of ${text}`,
      ttlMs: undefined,
      ...more,
    })
    const read = async (...texts: string[]) => {
      const { values, failed, isTooLarge } = await opened.cacheStore.getMany(texts.map(keyOf), BYTES_MAX)
      expect({ failed, isTooLarge }).toEqual({ failed: [], isTooLarge: false })
      return texts.map((text) => values.get(keyOf(text)))
    }
    const set = async (...entries: CacheEntry[]) => {
      expect(await opened.cacheStore.setMany(entries)).toEqual({ done: entries.length, failed: [] })
    }

    it('gives what was set, and nothing for what was not', async () => {
      await set(entryOf('a'), entryOf('b', { value: '' }))
      expect(await read('a', 'b', 'c')).toEqual(['value of a', '', undefined])
    })

    it('keeps every character of keys and values', async () => {
      const value = 'line\nnul\u0000quote"ä€😀'
      const names = ['ä€😀', 'a b', "it's; DROP TABLE cache_entry; --", '[1]?', '{x', '{}', 'k'.repeat(900)]
      await set(...names.map((text) => entryOf(text, { value })))
      expect(await read(...names)).toEqual(names.map(() => value))
      expect(await opened.cacheStore.removeMany(names.map(keyOf))).toEqual({ done: names.length, failed: [] })
    })

    it('removes what is there, counts only that, and tells apart what differs by case or a space', async () => {
      await set(entryOf('a'), entryOf('A'), entryOf('a '), entryOf('b'))
      const outcome = await opened.cacheStore.removeMany(['a', 'b', 'missing'].map(keyOf))
      expect(outcome).toEqual({ done: 2, failed: [] })
      expect(await read('a', 'A', 'a ', 'b')).toEqual([undefined, 'value of A', 'value of a ', undefined])
      expect(await opened.cacheStore.removeMany(['a', 'b'].map(keyOf))).toEqual({ done: 0, failed: [] })
    })

    it('takes keys by their letters: nothing in them is a pattern', async () => {
      await set(entryOf('a1'), entryOf('a2'))
      for (const pattern of ['a?', 'a[12]', 'a%', 'a_', '*', 'a*']) {
        expect(await opened.cacheStore.removeMany([keyOf(pattern)])).toEqual({ done: 0, failed: [] })
      }
      expect(await read('a1', 'a2')).toEqual(['value of a1', 'value of a2'])
    })

    it('replaces value and time to live, and of two entries with one key keeps the last', async () => {
      await set(entryOf('a', { ttlMs: 1 }))
      await set(entryOf('a', { value: 'for ever' }))
      const twice = [entryOf('b', { value: '1' }), entryOf('b', { value: '2' })]
      expect(await opened.cacheStore.setMany(twice)).toEqual({ done: 1, failed: [] })
      await new Promise((resolve) => setTimeout(resolve, 20))
      expect(await read('a', 'b')).toEqual(['for ever', '2'])
    })

    it('forgets an entry when its time is over, and does not count it as removed', async () => {
      await set(
        entryOf('short', { ttlMs: 150 }),
        entryOf('gone', { ttlMs: 1 }),
        entryOf('long', { ttlMs: 600_000 }),
      )
      expect((await read('long'))[0]).toBe('value of long')
      await until(async () => (await read('short'))[0] === undefined)
      expect(await opened.cacheStore.removeMany(['short', 'gone', 'long'].map(keyOf))).toEqual({
        done: 1,
        failed: [],
      })
    })

    it('gives up before it reads more than it may', async () => {
      await set(entryOf('a', { value: 'x'.repeat(600) }), entryOf('b', { value: 'x'.repeat(600) }))
      const keys = [keyOf('a'), keyOf('b')]
      expect(await opened.cacheStore.getMany(keys, 1199)).toMatchObject({
        isTooLarge: true,
        values: new Map(),
      })
      expect(await opened.cacheStore.getMany(keys, 1200)).toMatchObject({ isTooLarge: false, done: 2 })
    })

    it('does nothing for nothing', async () => {
      expect(await opened.cacheStore.removeMany([])).toEqual({ done: 0, failed: [] })
      expect(await opened.cacheStore.setMany([])).toEqual({ done: 0, failed: [] })
      expect(await opened.cacheStore.getMany([], 0)).toMatchObject({ done: 0, isTooLarge: false })
    })

    it(`sets, reads and removes ${MANY} keys`, async () => {
      const entries = Array.from({ length: MANY }, (_, index) => entryOf(index))
      await set(...entries)
      const keys = [...entries.map(({ key }) => key), ...entries.map(({ key }) => `${key} missing`)]
      const { values, done } = await opened.cacheStore.getMany(keys, BYTES_MAX)
      expect([values.size, done]).toEqual([MANY, MANY])
      expect(await opened.cacheStore.removeMany(keys)).toEqual({ done: MANY, failed: [] })
      expect((await opened.cacheStore.getMany(keys, BYTES_MAX)).values.size).toBe(0)
    })

    it('keeps entries over a restart', async () => {
      await set(entryOf('a'), entryOf('b', { ttlMs: 600_000 }), entryOf('c', { ttlMs: 1 }))
      opened = await opened.reopen()
      expect(await read('a', 'b')).toEqual(['value of a', 'value of b'])
      await until(async () => (await read('c'))[0] === undefined)
    })
  })
}
