/**
 * The cache database: texts by plain keys, which scripts keep there or drop. It may be shared with
 * other programs, so nothing here looks for keys: every key is named by the caller.
 *
 * Lists of any length are worked off in batches of at most 1,000. What the store fails at does not
 * reject: it is told in `failed`, where it may or may not have been done, and all of it may be asked
 * for again.
 */
export interface CacheStore {
  /** Gives up, with `isTooLarge`, before more than `bytesMax` bytes of values are read. */
  getMany(keys: readonly string[], bytesMax: number): Promise<CacheValues>
  /** Replaces what is there, its time to live included. Of entries with one key the last stays. */
  setMany(entries: readonly CacheEntry[]): Promise<CacheOutcome>
  /** `done` counts the keys that were there. */
  removeMany(keys: readonly string[]): Promise<CacheOutcome>
}

export interface CacheEntry {
  readonly key: string
  readonly value: string
  /** Whole and positive; `undefined`: for ever. */
  readonly ttlMs: number | undefined
}

export interface CacheOutcome {
  readonly done: number
  readonly failed: readonly string[]
  /** Of the first failure, for the log. */
  readonly cause?: unknown
}

export interface CacheValues extends CacheOutcome {
  /** Of the keys that are there and hold a text; `done` counts them. */
  readonly values: ReadonlyMap<string, string>
  readonly isTooLarge: boolean
}
