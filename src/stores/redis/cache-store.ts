import type { CacheEntry, CacheOutcome, CacheStore } from '../../ports/cache-store.ts'
import type { Logger } from '../../ports/runtime.ts'
import { runBatches } from '../batches.ts'
import { type Connection, openConnection, type RedisPlace, textOf } from './connection.ts'
import { slotOf } from './hash-slot.ts'

const TIMEOUT_MS = 2_000
const READY_WITHIN_MS = 2_000

/** One command of a batch; all commands of a batch are on their way at the same time. */
interface Command {
  readonly keys: readonly string[]
  run(): Promise<number>
}

/**
 * The cache database in a Redis, on a connection of its own, so that no long list and no large value
 * delays anything else. Where it cannot be reached the gateway starts all the same: it is scripts
 * that need it, not requests.
 */
export async function openRedisCache(
  settings: RedisPlace,
  logger: Logger,
): Promise<{ readonly cacheStore: CacheStore; close(): void }> {
  const connection = openConnection(settings, 'dripgate-cache')
  await connection.ready(READY_WITHIN_MS).catch((error: unknown) => {
    logger.warn(
      'the cache database of the script API cannot be reached yet; its calls get 502 until it can',
      {
        error: textOf(error),
      },
    )
  })
  return { cacheStore: createCacheStore(connection), close: connection.close }
}

function createCacheStore(connection: Connection): CacheStore {
  const call = (command: string, args: (string | number)[]) => connection.call(TIMEOUT_MS, command, args)
  /** What fails as a whole may have met a dead connection, which nothing else would notice. */
  const runAll = async (commands: readonly Command[]) => {
    const outcome = await settleAll(commands)
    const isAllLost = commands.length > 0 && outcome.failed.length === countKeys(commands)
    if (isAllLost && connection.isReady()) connection.reconnect()
    return outcome
  }
  const groups = (keys: readonly string[]) =>
    connection.isCluster ? groupBySlot(keys) : keys.length === 0 ? [] : [keys]

  /** 0 for what is no text. */
  async function measure(key: string): Promise<number> {
    try {
      return Number(await call('STRLEN', [key]))
    } catch (error) {
      if (textOf(error).includes('WRONGTYPE')) return 0
      throw error
    }
  }

  return {
    async getMany(keys, bytesMax) {
      const values = new Map<string, string>()
      let bytes = 0
      const add = async (key: string) => {
        const more = await measure(key)
        bytes += more
        return 1
      }
      const read = async (group: readonly string[]) => {
        const found = (await call('MGET', [...group])) as (string | null)[]
        const before = values.size
        for (const [index, key] of group.entries()) {
          const value = found[index]
          if (typeof value === 'string') values.set(key, value)
        }
        return values.size - before
      }
      const outcome = await runBatches(keys, async (batch) => {
        const measured = await runAll(batch.map((key) => ({ keys: [key], run: () => add(key) })))
        if (bytes > bytesMax) return { done: 0, failed: batch }
        const lost = new Set(measured.failed)
        const known = batch.filter((key) => !lost.has(key))
        const found = await runAll(groups(known).map((group) => ({ keys: group, run: () => read(group) })))
        const failed = [...measured.failed, ...found.failed]
        return { done: found.done, failed, cause: measured.cause ?? found.cause }
      })
      return { ...outcome, values, isTooLarge: bytes > bytesMax }
    },

    setMany(entries) {
      const byKey = new Map(entries.map((entry) => [entry.key, entry]))
      const set = async ({ key, value, ttlMs }: CacheEntry) => {
        await call('SET', ttlMs === undefined ? [key, value] : [key, value, 'PX', ttlMs])
        return 1
      }
      return runBatches([...byKey.keys()], (batch) =>
        runAll(
          batch
            .flatMap((key) => byKey.get(key) ?? [])
            .map((entry) => ({ keys: [entry.key], run: () => set(entry) })),
        ),
      )
    },

    removeMany: (keys) =>
      runBatches(keys, (batch) =>
        runAll(
          groups(batch).map((group) => ({
            keys: group,
            run: async () => Number(await call('UNLINK', [...group])),
          })),
        ),
      ),
  }
}

async function settleAll(commands: readonly Command[]): Promise<CacheOutcome> {
  const settled = await Promise.allSettled(commands.map((command) => command.run()))
  const failed: string[] = []
  let done = 0
  let cause: unknown
  for (const [index, result] of settled.entries()) {
    if (result.status === 'fulfilled') done += result.value
    else {
      failed.push(...(commands[index]?.keys ?? []))
      cause ??= result.reason
    }
  }
  return { done, failed, ...(cause === undefined ? {} : { cause }) }
}

function countKeys(commands: readonly Command[]): number {
  return commands.reduce((sum, { keys }) => sum + keys.length, 0)
}

/** Keys that may stand in one command of a cluster. */
function groupBySlot(keys: readonly string[]): readonly (readonly string[])[] {
  return [...Map.groupBy(keys, slotOf).values()]
}
