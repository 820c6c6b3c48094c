import type { CacheOutcome } from '../ports/cache-store.ts'

const BATCH_MAX = 1_000
/** Nothing new is begun after this; what is left is reported as failed. */
const LIST_TIMEOUT_MS = 5_000

/**
 * Works a list off in batches, one after the other. It ends early when time is up, and after a batch
 * of which nothing succeeded: then the rest would only wait as long again.
 */
export async function runBatches(
  keys: readonly string[],
  run: (batch: readonly string[]) => Promise<CacheOutcome>,
): Promise<CacheOutcome> {
  const deadline = performance.now() + LIST_TIMEOUT_MS
  const failed: string[] = []
  let done = 0
  let cause: unknown
  let start = 0
  while (start < keys.length && performance.now() < deadline) {
    const batch = keys.slice(start, start + BATCH_MAX)
    start += batch.length
    const outcome = await run(batch)
    done += outcome.done
    for (const key of outcome.failed) failed.push(key)
    cause ??= outcome.cause
    if (outcome.failed.length === batch.length) break
  }
  for (const key of keys.slice(start)) failed.push(key)
  if (failed.length > 0) cause ??= new Error(`the list was not worked off in ${LIST_TIMEOUT_MS} ms`)
  return { done, failed, ...(cause === undefined ? {} : { cause }) }
}
