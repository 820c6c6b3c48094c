import { type Connection, toScript } from './connection.ts'
import type { Layout } from './layout.ts'

/** Tells that a thread lives, forgets those that have been silent, and counts the rest. */
const BEAT_SCRIPT = toScript(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
return redis.call('ZCARD', KEYS[1])
`)

const BEAT_EVERY_MS = 1_000
const SILENT_MS_MAX = 5_000
const TIMEOUT_MS = 500

/** Beats in a row without an answer, after which the connection is given up: a thread may have no checks. */
const BEATS_LOST_MAX = 3

/** How many data-plane threads live, over all nodes; the last number known while Redis is away. */
export interface Fleet {
  threads(): number
  /** Takes this thread out of the count. */
  close(): Promise<void>
}

/** `atLeast`: the threads of this node, of which some may not have joined yet. */
export function joinFleet(connection: Connection, layout: Layout, thread: string, atLeast: number): Fleet {
  const key = layout.meta('threads')
  let threads = atLeast
  let beatsLost = 0
  async function beat(): Promise<void> {
    try {
      threads = Math.max(
        atLeast,
        Number(await connection.run(TIMEOUT_MS, BEAT_SCRIPT, [key], [thread, SILENT_MS_MAX])),
      )
      beatsLost = 0
    } catch {
      // The breaker and the metrics tell of it; here the last number stands.
      beatsLost++
      if (beatsLost % BEATS_LOST_MAX === 0) connection.reconnect()
    }
  }
  connection.on('up', () => void beat())
  if (connection.isReady()) void beat()
  const timer = setInterval(() => void beat(), BEAT_EVERY_MS)
  timer.unref()
  return {
    threads: () => threads,
    async close() {
      clearInterval(timer)
      await connection.call(TIMEOUT_MS, 'ZREM', [key, thread]).catch(() => {})
    },
  }
}
