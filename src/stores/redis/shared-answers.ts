import type { SharedAnswers } from '../../ports/shared-answers.ts'
import { openConnection, type RedisSettings } from './connection.ts'
import { createLayout } from './layout.ts'
import type { PurgeFleet } from './purge-fleet.ts'

const TIMEOUT_MS = 250
const KEEP_MS_MAX = 3_600_000
const PUTS_MAX = 64
const HEAD_BYTES = 8

/**
 * Cached answers in Redis, for all nodes. Each node accounts for what it has put there itself, and
 * removes the oldest of it when that becomes too much; whatever else happens, it expires.
 */
export function openSharedAnswers(options: {
  readonly settings: RedisSettings
  readonly fleet: PurgeFleet
  readonly bytesMax: () => number
}): SharedAnswers & { close(): void } {
  const { settings, fleet, bytesMax } = options
  const connection = openConnection(settings, 'dripgate-answers')
  const { prefix } = createLayout(settings.prefix)
  /** Bytes by name, the oldest first. */
  const own = new Map<string, number>()
  let ownBytes = 0
  let puts = 0
  const toKey = (name: string) => `${prefix}{c${name.slice(0, 2)}}:${name}`

  function forget(name: string): void {
    ownBytes -= own.get(name) ?? 0
    own.delete(name)
  }

  function makeRoom(bytes: number): void {
    for (const name of own.keys()) {
      if (ownBytes + bytes <= bytesMax()) return
      forget(name)
      connection.call(TIMEOUT_MS, 'UNLINK', [toKey(name)]).catch(() => {})
    }
  }

  return {
    get era() {
      return fleet.era
    },
    isUntouched: (marks, since, era) => fleet.isUntouched(marks, since, era),
    spread: (marks) => fleet.spread(marks),

    async get(name) {
      if (!connection.isReady()) return undefined
      const key = toKey(name)
      const asked = Promise.all([connection.client.getBuffer(key), connection.client.pttl(key)])
      const late = new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), TIMEOUT_MS))
      const found = await Promise.race([asked, late]).catch(() => undefined)
      const [bytes, leftMs = -1] = found ?? []
      if (bytes === undefined || bytes === null || bytes.length < HEAD_BYTES || leftMs < 0) return undefined
      const elapsedMs = Math.max(0, bytes.readDoubleBE(0) - leftMs)
      return { bytes: bytes.subarray(HEAD_BYTES), elapsedMs }
    },

    put(name, bytes, keepMs) {
      const ms = Math.floor(Math.min(keepMs, KEEP_MS_MAX))
      if (ms < 1 || puts >= PUTS_MAX || bytes.length > bytesMax() || !connection.isReady()) return
      forget(name)
      makeRoom(bytes.length)
      own.set(name, bytes.length)
      ownBytes += bytes.length
      const head = Buffer.alloc(HEAD_BYTES)
      head.writeDoubleBE(ms)
      puts++
      connection
        .call(TIMEOUT_MS, 'SET', [toKey(name), Buffer.concat([head, bytes]), 'PX', ms])
        .catch(() => {})
        .finally(() => {
          puts--
        })
    },

    close: () => connection.close(),
  }
}
