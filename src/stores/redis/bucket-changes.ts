import { type Argument, toScript } from './connection.ts'
import { readScript, shardOf } from './layout.ts'
import { type Management, readMany } from './management.ts'
import {
  effectiveAt,
  parseStored,
  type StoredKeyJson,
  type StoredKeyspace,
  toLimit,
  toLimitText,
} from './records.ts'

/** What management does to buckets: by the same script as the data plane, so in one order with it. */

const KEYS_PER_PAGE = 500
const BUCKETS = toScript(readScript('buckets.lua'))

/** The bucket of a key whose limit is now another one: what was used stays used. */
export async function convertBucket(
  management: Management,
  key: StoredKeyJson,
  before: StoredKeyspace,
  after: StoredKeyspace,
) {
  await convertMany(management, [key], before, after)
}

/** The same for the keys that inherit the limit of a keyspace, page by page. */
export async function convertBuckets(
  management: Management,
  before: StoredKeyspace,
  after: StoredKeyspace,
): Promise<void> {
  const { connection, layout, timeoutMs } = management
  const list = layout.meta(`keys:${after.number}`)
  let from = '-inf'
  for (;;) {
    const found = (await connection.call(timeoutMs, 'ZRANGEBYSCORE', [
      list,
      from,
      '+inf',
      'WITHSCORES',
      'LIMIT',
      0,
      KEYS_PER_PAGE,
    ])) as string[]
    const kids = found.filter((_, index) => index % 2 === 0)
    const texts = await readMany(
      management,
      kids.map((kid) => layout.meta(`key:${kid}`)),
    )
    const keys = texts.map((text) => parseStored<StoredKeyJson>(text)).filter((key) => key !== undefined)
    await convertMany(
      management,
      keys.filter((key) => key.limit === null),
      before,
      after,
    )
    if (kids.length < KEYS_PER_PAGE) return
    from = `(${found.at(-1)}`
  }
}

async function convertMany(
  { connection, layout, timeoutMs, overrideMs }: Management,
  keys: readonly StoredKeyJson[],
  before: StoredKeyspace,
  after: StoredKeyspace,
): Promise<void> {
  for (const group of groupByShard(keys).values()) {
    const shard = shardOf(group[0]?.kid ?? '')
    const names = group.map((key) => layout.bucket(shard, key.kid))
    // Without a limit before or after there is nothing to carry over.
    const limits = group.map((key) => toLimit(key.limit ?? after.limit))
    if (limits[0] === undefined || toLimit(before.limit) === undefined) {
      await connection.call(timeoutMs, 'UNLINK', names)
      continue
    }
    const args: Argument[] = [overrideMs?.() ?? 0, 0, 1, group.length]
    for (const [index, key] of group.entries()) {
      const limit = limits[index]
      args.push(limit === undefined ? '' : toLimitText(limit, effectiveAt(key, after)))
    }
    for (const [index, key] of group.entries()) args.push(key.createdAt, `${index + 1} 0 1 0 0 0 0`)
    await connection.run(timeoutMs, BUCKETS, names, args)
  }
}

/** No take succeeds on the bucket any more, whatever a thread still believes of its key. */
export async function endBucket(
  { connection, layout, timeoutMs, overrideMs }: Management,
  kid: string,
): Promise<void> {
  const shard = shardOf(kid)
  const args = [overrideMs?.() ?? 0, 0, 1, 0, 0, '0 0 1 0 0 0 0']
  await connection.run(timeoutMs, BUCKETS, [layout.bucket(shard, kid)], args)
  await connection.call(timeoutMs, 'HDEL', [layout.used(shard), kid])
}

function groupByShard(keys: readonly StoredKeyJson[]): Map<number, StoredKeyJson[]> {
  return Map.groupBy(keys, (key) => shardOf(key.kid))
}
