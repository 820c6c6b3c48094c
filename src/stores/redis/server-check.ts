import type { Logger } from '../../ports/runtime.ts'
import type { Connection } from './connection.ts'
import { LAYOUT_VERSION, type Layout } from './layout.ts'

/** Rejects where the data under this prefix is of another version of Dripgate than this one. */
export async function assertLayout(connection: Connection, layout: Layout, timeoutMs: number): Promise<void> {
  const key = layout.meta('layout')
  await connection.call(timeoutMs, 'SET', [key, LAYOUT_VERSION, 'NX'])
  const found = await connection.call(timeoutMs, 'GET', [key])
  if (String(found) === String(LAYOUT_VERSION)) return
  throw new Error(
    `the data under "${layout.prefix}" in Redis has layout ${found}, and this version of Dripgate needs ${LAYOUT_VERSION}. ` +
      'Run the version that wrote it, or choose another store.redis.prefix.',
  )
}

/**
 * Warns of settings under which Redis forgets buckets: an evicted or lost bucket is a full one.
 * What the server does not let us read is passed over.
 */
export async function warnOfSettings(
  connection: Connection,
  logger: Logger,
  timeoutMs: number,
): Promise<void> {
  const read = async (section: string, field: string) => {
    const text = await connection.call(timeoutMs, 'INFO', [section]).catch(() => '')
    return new RegExp(`^${field}:(.*?)\r?$`, 'm').exec(String(text))?.[1]
  }
  const policy = await read('memory', 'maxmemory_policy')
  if (policy !== undefined && policy !== 'noeviction') {
    logger.warn('Redis may evict buckets, which makes them full again; set maxmemory-policy to noeviction', {
      policy,
    })
  }
  const aof = await read('persistence', 'aof_enabled')
  if (aof === '0') {
    logger.warn(
      'Redis does not log its writes; after a restart keys and what was spent may be lost; set appendonly to yes',
      {
        aof_enabled: aof,
      },
    )
  }
}
