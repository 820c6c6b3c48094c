import type { CacheStore } from '../../src/ports/cache-store.ts'

export interface MemoryCache extends CacheStore {
  readonly entries: Map<string, string>
  /** Keys that it fails at. */
  readonly failing: Set<string>
}

/** A cache database in memory. Nothing expires. */
export function createMemoryCache(): MemoryCache {
  const entries = new Map<string, string>()
  const failing = new Set<string>()
  const work = (keys: readonly string[], act: (key: string) => boolean) => {
    const failed = keys.filter((key) => failing.has(key))
    const done = keys.filter((key) => !failing.has(key) && act(key)).length
    return { done, failed, ...(failed.length > 0 ? { cause: new Error('the disk is on fire') } : {}) }
  }
  return {
    entries,
    failing,
    async getMany(keys, bytesMax) {
      const values = new Map<string, string>()
      let bytes = 0
      const outcome = work(keys, (key) => {
        const value = entries.get(key)
        if (value !== undefined) values.set(key, value)
        bytes += value?.length ?? 0
        return value !== undefined
      })
      return { ...outcome, values, isTooLarge: bytes > bytesMax }
    },
    setMany: async (list) =>
      work(
        [...new Set(list.map(({ key }) => key))],
        (key) => entries.set(key, list.findLast((entry) => entry.key === key)?.value ?? '') !== undefined,
      ),
    removeMany: async (keys) => work(keys, (key) => entries.delete(key)),
  }
}
