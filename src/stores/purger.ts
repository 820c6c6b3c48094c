import type { Config } from '../config/schema.ts'
import { parsePurgeKey } from '../domain/purge-key.ts'
import { KEY_RECORDS_MARK, listPurgeMarks } from '../domain/purge-marks.ts'
import type { CachePurger, PurgeOutcome } from '../ports/purge.ts'
import type { PurgeCounters } from '../ports/purge-counters.ts'
import type { Logger } from '../ports/runtime.ts'
import type { SharedAnswers } from '../ports/shared-answers.ts'
import { joinPurgeFleet } from './redis/purge-fleet.ts'
import { openSharedAnswers } from './redis/shared-answers.ts'

/** Purges of the process, and what it shares with other nodes where the store is shared. */
export interface OpenPurger extends CachePurger {
  readonly shared: SharedAnswers | undefined
  /** Once nothing is served any more. */
  close(): Promise<void>
}

export interface PurgerOptions {
  readonly config: () => Config
  readonly counters: PurgeCounters
  /** Of the clock of buckets. */
  readonly nowMs: () => number
  /** Drops what threads remember of keys; `false` where one has not confirmed it. */
  readonly forgetRecords: () => Promise<boolean>
  readonly logger: Logger
  readonly onPurge: (outcome: PurgeOutcome['kind'] | 'failed') => void
}

export function openPurger(options: PurgerOptions): OpenPurger {
  const { purge, ...rest } = open(options)
  return {
    ...rest,
    async purge(key) {
      try {
        const outcome = await purge(listPurgeMarks(parsePurgeKey(key)))
        options.onPurge(outcome.kind)
        return outcome
      } catch (error) {
        options.onPurge('failed')
        throw error
      }
    },
  }
}

interface Purges {
  purge(marks: readonly number[]): Promise<PurgeOutcome>
  readonly shared: SharedAnswers | undefined
  close(): Promise<void>
}

function open({ config, counters, forgetRecords, nowMs, logger }: PurgerOptions): Purges {
  const { redis } = config().store
  if (redis === undefined) {
    // Without other nodes there is nobody whose purges could be missed.
    counters.setLease(Number.POSITIVE_INFINITY)
    return {
      shared: undefined,
      async purge(marks) {
        counters.raise(marks)
        const isDone = !marks.includes(KEY_RECORDS_MARK) || (await forgetRecords())
        return isDone ? { kind: 'done', acknowledged: 1 } : { kind: 'pending', acknowledged: 0, pending: 1 }
      },
      close: () => Promise.resolve(),
    }
  }
  const fleet = joinPurgeFleet({ settings: redis, counters, nowMs, forgetRecords, logger })
  const shared = openSharedAnswers({
    settings: redis,
    fleet,
    bytesMax: () => config().gateway.cache.redis_memory,
  })
  return {
    shared,
    purge: (marks) => fleet.purge(marks),
    async close() {
      shared.close()
      await fleet.close()
    },
  }
}
