import { type BucketCall, createStep, NO_LIMIT, runSteps, STEPS_PER_CALL } from './bucket-script.ts'
import { shardOf } from './layout.ts'
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
  management: Management,
  keys: readonly StoredKeyJson[],
  before: StoredKeyspace,
  after: StoredKeyspace,
): Promise<void> {
  const { connection, layout, timeoutMs } = management
  const groups = Map.groupBy(keys, ({ kid }) => (connection.isCluster ? shardOf(kid) : 0))
  for (const group of groups.values()) {
    for (let start = 0; start < group.length; start += STEPS_PER_CALL) {
      const steps = group.slice(start, start + STEPS_PER_CALL).map((key) => {
        const limit = toLimit(key.limit ?? after.limit)
        return createStep({
          key: layout.bucket(shardOf(key.kid), key.kid),
          anchorMs: key.createdAt,
          limitText: limit === undefined ? NO_LIMIT : toLimitText(limit, effectiveAt(key, after)),
        })
      })
      // Without a limit before or after there is nothing to carry over.
      if (toLimit(before.limit) === undefined || steps[0]?.limitText === NO_LIMIT) {
        const names = steps.map(({ key }) => key)
        await connection.call(timeoutMs, 'UNLINK', names)
      } else await runSteps(connection, steps, toCall(management))
    }
  }
}

/** No take succeeds on the bucket any more, whatever a thread still believes of its key. */
export async function endBucket(management: Management, kid: string): Promise<void> {
  const { connection, layout, timeoutMs } = management
  const shard = shardOf(kid)
  const step = createStep({ key: layout.bucket(shard, kid), anchorMs: 0, limitText: NO_LIMIT })
  await runSteps(connection, [step], toCall(management))
  await connection.call(timeoutMs, 'HDEL', [layout.used(shard), kid])
}

function toCall({ timeoutMs, overrideMs }: Management): BucketCall {
  return { timeoutMs, overrideMs: overrideMs?.() ?? 0, notAfterMs: 0, lessees: 1, isDistinct: true }
}
