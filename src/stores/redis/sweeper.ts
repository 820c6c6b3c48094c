import type { Logger } from '../../ports/runtime.ts'
import { shardOf } from './layout.ts'
import { type Management, readMany } from './management.ts'
import { parseStored, type StoredKeyJson } from './records.ts'
import { commit } from './transaction.ts'

const SWEEP_EVERY_MS = 5_000
const KEYS_PER_TURN = 200
/** Turns in a row, so that a large keyspace goes quickly and Redis still breathes. */
const TURNS_MAX = 50

/**
 * Removes what is left of deleted keyspaces, and keys that expired long ago. Every node does it;
 * all of it may be done twice.
 */
export function startSweeper(
  management: Management,
  logger: Logger,
  wallMs: () => number,
): { sweep(): Promise<void>; close(): void } {
  let isSweeping = false
  let isClosed = false

  async function sweep(): Promise<void> {
    if (isSweeping) return
    isSweeping = true
    try {
      for (let turn = 0; turn < TURNS_MAX && !isClosed; turn++) {
        if (!(await sweepDead(management)) && !(await sweepExpired(management, wallMs()))) break
      }
    } catch (error) {
      logger.debug('the sweep failed and is tried again', { error })
    } finally {
      isSweeping = false
    }
  }

  const timer = setInterval(() => void sweep(), SWEEP_EVERY_MS)
  timer.unref()
  return {
    sweep,
    close() {
      isClosed = true
      clearInterval(timer)
    },
  }
}

/** `false`: no deleted keyspace is left. */
async function sweepDead(management: Management): Promise<boolean> {
  const { connection, layout, timeoutMs } = management
  const number = await connection.call(timeoutMs, 'LINDEX', [layout.meta('dead'), 0])
  if (typeof number !== 'string') return false
  const list = layout.meta(`keys:${number}`)
  const kids = (await connection.call(timeoutMs, 'ZRANGE', [list, 0, KEYS_PER_TURN - 1])) as string[]
  if (kids.length === 0) await connection.call(timeoutMs, 'LREM', [layout.meta('dead'), 0, number])
  await removeKeys(management, kids, list)
  return true
}

/** `false`: nothing has expired long enough ago. */
async function sweepExpired(management: Management, nowMs: number): Promise<boolean> {
  const { connection, layout, timeoutMs } = management
  const expired = (await connection.call(timeoutMs, 'ZRANGEBYSCORE', [
    layout.meta('expiring'),
    '-inf',
    nowMs,
    'LIMIT',
    0,
    KEYS_PER_TURN,
  ])) as string[]
  await removeKeys(management, expired, undefined)
  return expired.length > 0
}

async function removeKeys(
  management: Management,
  kids: readonly string[],
  list: string | undefined,
): Promise<void> {
  const { connection, layout, timeoutMs } = management
  const texts = await readMany(
    management,
    kids.map((kid) => layout.meta(`key:${kid}`)),
  )
  for (const [index, kid] of kids.entries()) {
    const text = texts[index]
    const key = parseStored<StoredKeyJson>(text)
    const lists = [list, key && layout.meta(`keys:${key.keyspace}`)].filter((name) => name !== undefined)
    const failed = await commit(connection, timeoutMs, {
      // Somebody may just have given the key a later expiry.
      checks: typeof text === 'string' ? [{ kind: 'is', key: layout.meta(`key:${kid}`), text }] : [],
      writes: [
        ['DEL', layout.meta(`key:${kid}`)],
        ['ZREM', layout.meta('expiring'), kid],
        ...[...new Set(lists)].map((name) => ['ZREM', name, kid] as const),
      ],
    })
    if (failed !== undefined || key === undefined) continue
    const shard = shardOf(kid)
    await connection.call(timeoutMs, 'UNLINK', [layout.token(key.tokenHash)])
    await connection.call(timeoutMs, 'UNLINK', [layout.bucket(shard, kid)])
    await connection.call(timeoutMs, 'HDEL', [layout.used(shard), kid])
  }
}
