import type { Connection } from './connection.ts'
import { toScript } from './connection.ts'
import type { Layout } from './layout.ts'

/**
 * One step in which a node tells that it lives, up to which purge it has applied all, and what it
 * purges; and hears what was purged since. In Redis it is atomic, so whoever gets a new lease has
 * heard of every purge before it.
 *
 * Purges are numbered. An era is a run of numbers without a gap: where Redis has lost them, or some
 * of them, a new era begins, and nodes take everything from before for purged. A node that knew
 * another era may not be known here yet though its lease runs: `reset` lasts as long as that can be.
 */
const SYNC_SCRIPT = toScript(`
local nodes, acks, purges, eraKey, seqKey, reset = unpack(KEYS)
local node, lease, last, known, fresh, channel, wants = unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local era = redis.call('GET', eraKey)
local seq = tonumber(redis.call('GET', seqKey) or '0')
last = tonumber(last)
if not era or (known == era and last > seq) then
  era = fresh
  seq = math.max(seq, last) + 1
  redis.call('DEL', purges)
  redis.call('SET', eraKey, era)
  redis.call('SET', seqKey, seq)
end
if known ~= era then
  if known ~= '' then redis.call('SET', reset, 1, 'PX', lease) end
  last = 0
end
redis.call('ZADD', nodes, now + lease, node)
redis.call('HSET', acks, node, era .. ' ' .. string.format('%.0f', last))
if #ARGV > 7 then
  for i = 8, #ARGV do
    seq = seq + 1
    redis.call('ZADD', purges, seq, ARGV[i])
  end
  redis.call('SET', seqKey, string.format('%.0f', seq))
  redis.call('PUBLISH', channel, '1')
end
local others = {}
if wants == '1' then
  local all = redis.call('ZRANGE', nodes, 0, -1, 'WITHSCORES')
  for i = 1, #all, 2 do
    if tonumber(all[i + 1]) <= now then
      redis.call('ZREM', nodes, all[i])
      redis.call('HDEL', acks, all[i])
    else
      others[#others + 1] = { all[i], redis.call('HGET', acks, all[i]) or '' }
    end
  end
end
local changes = redis.call('ZRANGEBYSCORE', purges, '(' .. string.format('%.0f', last), '+inf', 'WITHSCORES')
return { era, string.format('%.0f', seq), changes, others, redis.call('PTTL', reset) }
`)

export interface SyncRequest {
  readonly node: string
  readonly leaseMs: number
  readonly last: number
  /** Empty while none is known. */
  readonly era: string
  /** Of the era that begins where there is none. */
  readonly freshEra: string
  readonly wantsNodes: boolean
  readonly marks: readonly number[]
}

export interface SyncAnswer {
  readonly era: string
  readonly seq: number
  /** Mark and number of its last purge. */
  readonly changes: readonly (readonly [mark: number, seq: number])[]
  /** Nodes whose lease may still run, this one included, and up to where they have applied all. */
  readonly nodes: readonly { readonly node: string; readonly applied: number }[]
  /** For how long there may be nodes with a lease that are not in the list. */
  readonly resetMs: number
}

export function toPurgeChannel(layout: Layout): string {
  return `${layout.prefix}purges`
}

export async function syncPurges(
  connection: Connection,
  layout: Layout,
  timeoutMs: number,
  request: SyncRequest,
): Promise<SyncAnswer> {
  const { node, leaseMs, last, era, freshEra, wantsNodes, marks } = request
  const keys = ['cache-nodes', 'cache-acks', 'purges', 'purge-era', 'purge-seq', 'purge-reset']
  const reply = (await connection.run(
    timeoutMs,
    SYNC_SCRIPT,
    keys.map((name) => layout.meta(name)),
    [node, leaseMs, last, era, freshEra, toPurgeChannel(layout), wantsNodes ? 1 : 0, ...marks],
  )) as [string, string, string[], [string, string][], number]
  const [eraNow, seq, changes, nodes, resetMs] = reply
  return {
    era: eraNow,
    seq: Number(seq),
    changes: toPairs(changes),
    nodes: nodes.map(([name, ack]) => ({ node: name, applied: parseAck(ack, eraNow) })),
    resetMs: Number(resetMs),
  }
}

/** What was applied of another era counts for nothing. */
function parseAck(ack: string, era: string): number {
  const [ackedEra, applied] = ack.split(' ')
  return ackedEra === era ? Number(applied) : 0
}

function toPairs(flat: readonly string[]): [number, number][] {
  const pairs: [number, number][] = []
  for (let i = 0; i < flat.length; i += 2) pairs.push([Number(flat[i]), Number(flat[i + 1])])
  return pairs
}

/** A node that leaves need not be waited for. */
export async function leavePurges(
  connection: Connection,
  layout: Layout,
  timeoutMs: number,
  node: string,
): Promise<void> {
  await Promise.all([
    connection.call(timeoutMs, 'ZREM', [layout.meta('cache-nodes'), node]),
    connection.call(timeoutMs, 'HDEL', [layout.meta('cache-acks'), node]),
  ])
}
