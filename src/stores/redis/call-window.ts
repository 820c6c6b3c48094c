import { CALL_WINDOW_MS, type CallWindow } from '../../ports/call-window.ts'
import { type Connection, toScript } from './connection.ts'
import type { Layout } from './layout.ts'

/**
 * By the server's clock, so that all nodes have one window. KEYS: list of the instants, oldest
 * first. ARGV: limit, length of the window. Gives 0, or how many ms the caller has to wait. Where
 * the clock steps back, the last instant stands for now, until the list has expired.
 */
const SCRIPT = toScript(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
now = math.max(now, tonumber(redis.call('LINDEX', KEYS[1], -1) or '0'))
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local first = redis.call('LINDEX', KEYS[1], 0)
while first and now - first > window do
  redis.call('LPOP', KEYS[1])
  first = redis.call('LINDEX', KEYS[1], 0)
end
local oldest = redis.call('LINDEX', KEYS[1], -limit)
if oldest then return oldest + window + 1 - now end
redis.call('RPUSH', KEYS[1], string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], window + 1)
return 0
`)

const TIMEOUT_MS = 2_000

export function createCallWindow(connection: Connection, layout: Layout): CallWindow {
  return {
    async enter(caller, limit) {
      const key = layout.callWindow(caller)
      const waitMs = Number(await connection.run(TIMEOUT_MS, SCRIPT, [key], [limit, CALL_WINDOW_MS]))
      return waitMs === 0 ? { kind: 'passed' } : { kind: 'denied', retryAfterMs: waitMs }
    },
  }
}
