import { StoreUnavailable } from '../../ports/stores.ts'
import type { Change } from './changes.ts'
import { type Connection, toScript } from './connection.ts'
import type { Layout } from './layout.ts'
import { parseStored } from './records.ts'
import { type Check, commit, type Transaction } from './transaction.ts'

/** What the tables of the key store share. */
export interface Management {
  readonly connection: Connection
  readonly layout: Layout
  readonly timeoutMs: number
  /** How long expired keys are kept. */
  readonly keepExpiredMs: number
  /** Makes every thread forget; resolves when those of this node have, and the channel has it. */
  announce(change: Change): Promise<boolean>
  /** A stamp of this thread that is not in Redis yet. */
  stampOf(shard: number, kid: string): number | undefined
  /** Tests replace the server's clock. */
  readonly overrideMs?: (() => number) | undefined
}

/** How often a write starts again because somebody else changed the same thing meanwhile. */
const ATTEMPTS_MAX = 50

/** Now by the clock of Redis, and later than every instant it gave before. */
const NEXT_INSTANT = toScript(`
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local before = tonumber(redis.call('GET', KEYS[1]) or '0')
local next = string.format('%.0f', math.max(now, before + 1))
redis.call('SET', KEYS[1], next)
return next
`)

export async function nextInstant({
  connection,
  layout,
  timeoutMs,
  overrideMs,
}: Management): Promise<number> {
  return Number(await connection.run(timeoutMs, NEXT_INSTANT, [layout.meta('clock')], [overrideMs?.() ?? 0]))
}

export async function nextNumber({ connection, layout, timeoutMs }: Management): Promise<number> {
  return Number(await connection.call(timeoutMs, 'INCR', [layout.meta('seq')]))
}

export async function readText(
  { connection, timeoutMs }: Management,
  key: string,
): Promise<string | undefined> {
  const text = await connection.call(timeoutMs, 'GET', [key])
  return typeof text === 'string' && text !== '' ? text : undefined
}

export async function readJson<T>(management: Management, key: string): Promise<T | undefined> {
  return parseStored<T>(await readText(management, key))
}

/** Values of keys that have one tag, in order; none is asked for as none. */
export async function readMany(
  { connection, timeoutMs }: Management,
  keys: readonly string[],
): Promise<(string | null)[]> {
  if (keys.length === 0) return []
  return (await connection.call(timeoutMs, 'MGET', [...keys])) as (string | null)[]
}

export async function readList(
  { connection, timeoutMs }: Management,
  command: 'ZRANGE' | 'ZREVRANGE',
  key: string,
  range: { readonly page: number; readonly limit: number },
): Promise<{ members: string[]; total: number }> {
  const start = (range.page - 1) * range.limit
  const [members, total] = await Promise.all([
    connection.call(timeoutMs, command, [key, start, start + range.limit - 1]),
    connection.call(timeoutMs, 'ZCARD', [key]),
  ])
  return { members: members as string[], total: Number(total) }
}

/**
 * Reads and writes until nobody came in between: `plan` is asked anew after each failed `is`. What
 * `refuse` makes of other failed checks ends it.
 */
export async function change<T>(
  { connection, timeoutMs }: Management,
  plan: () => Promise<(Transaction & { readonly result: T }) | undefined>,
  refuse: (check: Check) => Error,
): Promise<T | undefined> {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const planned = await plan()
    if (planned === undefined) return undefined
    const failed = await commit(connection, timeoutMs, planned)
    if (failed === undefined) return planned.result
    if (failed.kind !== 'is') throw refuse(failed)
  }
  throw new StoreUnavailable('the same entry is being changed all the time')
}
