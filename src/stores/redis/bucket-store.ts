import { type BucketState, type Limit, refill } from '../../domain/bucket.ts'
import type { StoreFigures } from '../../ports/store-figures.ts'
import { type BucketStore, type MaybePromise, StoreUnavailable, type TakeResult } from '../../ports/stores.ts'
import { BoundedMap } from '../bounded-map.ts'
import type { Breaker } from './breaker.ts'
import {
  encodeJobs,
  type Job,
  type Known,
  type Lease,
  type Moment,
  type ServerClock,
  toResult,
  toUntilRefill,
} from './bucket-jobs.ts'
import { type Connection, type Script, textOf, toScript } from './connection.ts'
import { type Layout, readScript } from './layout.ts'
import type { RedisRecord } from './records.ts'

/** Time as this thread sees it. Tests replace both. */
export interface BucketTime {
  monotonicMs(): number
  /** Replaces the server's clock; buckets then never vanish. */
  readonly overrideMs?: (() => number) | undefined
}

export interface BucketDeps {
  readonly connection: Connection
  readonly layout: Layout
  /** Of a shard of buckets. */
  readonly breakerOf: (shard: number) => Breaker
  readonly figures: StoreFigures
  readonly time: BucketTime
  /** A call that takes longer is a failure; Redis then no longer carries it out. */
  readonly timeoutMs: number
  /** How many threads of all nodes may hold leases. */
  readonly lessees: () => number
  /** Buckets whose last known state is kept. */
  readonly statesMax: number
  readonly stamp: (record: RedisRecord, wallMs: number) => void
}

const KEYS_PER_CALL = 128
const LEASE_MS_MAX = 200
/** A bucket taken for empty is asked for again after this time: another node may have given tokens back. */
const BLOCK_MS_MAX = 1_000
const RETURN_EVERY_MS = 20
/** Two clocks drift apart: what was known of them longer ago than this is not relied on. */
const CLOCK_KNOWN_MS = 10_000
const STALE: TakeResult = { kind: 'stale', remaining: 0, lastRefilledMs: 0 }

/**
 * The buckets of one thread over Redis. All checks of one turn of the event loop go out together,
 * per shard; empty buckets are denied from memory until their next refill; hot ones are taken from
 * on lease. `take` rejects with `StoreUnavailable` where Redis does
 * not answer in time.
 */
export class RedisBuckets implements BucketStore<RedisRecord> {
  readonly #deps: BucketDeps
  readonly #script: Script = toScript(readScript('buckets.lua'))
  readonly #known: BoundedMap<Known>
  readonly #leases = new Map<string, Lease>()
  /** Jobs that wait for the end of this turn, by group: one for a single server, else one per shard. */
  readonly #waiting = new Map<number, Job[]>()
  readonly #jobOf = new Map<string, Job>()
  readonly #returnTimer: NodeJS.Timeout
  #isScheduled = false
  /** By group, as every master of a cluster has a clock of its own. */
  readonly #clocks = new Map<number, ServerClock>()
  #epoch = 0

  constructor(deps: BucketDeps) {
    this.#deps = deps
    this.#known = new BoundedMap(deps.statesMax)
    this.#returnTimer = setInterval(() => this.#returnEnded(), RETURN_EVERY_MS)
    this.#returnTimer.unref()
  }

  take(record: RedisRecord, cost: number, _nowMs: number, wallMs: number): MaybePromise<TakeResult> {
    const { limit } = record
    if (limit === undefined) {
      this.#deps.stamp(record, wallMs)
      return { kind: 'taken', remaining: 0, lastRefilledMs: 0 }
    }
    const result = this.#takeFromMemory(record, cost, wallMs)
    if (result !== undefined) return result
    const breaker = this.#deps.breakerOf(record.shard)
    if (!breaker.mayTry()) {
      this.#deps.figures.add('failed', 1)
      throw breaker.refusal()
    }
    return new Promise<TakeResult>((resolve, reject) => {
      const job = this.#join(record, cost)
      job.wallMs = wallMs
      job.waiters.push({ resolve, reject })
    })
  }

  #takeFromMemory(record: RedisRecord, cost: number, wallMs: number): TakeResult | undefined {
    const { figures, stamp, time } = this.#deps
    const known = this.#known.get(record.kid)
    if (known === undefined || known.limitText !== record.limitText) return undefined
    const now = time.monotonicMs()
    const lease = this.#leases.get(record.kid)
    if (
      lease !== undefined &&
      lease.left >= cost &&
      now < lease.endsAt &&
      lease.record.limitText === record.limitText
    ) {
      lease.left -= cost
      figures.add('leased', 1)
      stamp(record, wallMs)
      return toResult('taken', known, known.remaining + lease.left, now)
    }
    if (cost > Math.max(known.remaining, 0) && now < known.blockedUntil) {
      figures.add('blocked', 1)
      return toResult('denied', known, known.remaining, now)
    }
    return undefined
  }

  /** The limit or the token of the key changed, or the key is gone: nothing known of it counts any more. */
  forget(kid: string): void {
    this.#known.delete(kid)
    this.#leases.delete(kid)
  }

  forgetAll(): void {
    this.#known.clear()
    this.#leases.clear()
  }

  /** The connection is a new one: what the server remembers may be older than what we know. */
  startEpoch(): void {
    this.#epoch++
    for (const known of this.#known.values()) known.blockedUntil = 0
  }

  /** The last known state, for deciding without Redis. */
  lastKnown(record: RedisRecord): BucketState | undefined {
    const known = this.#known.get(record.kid)
    if (known === undefined || known.limitText !== record.limitText) return undefined
    return { remaining: known.remaining, lastRefilledMs: known.last }
  }

  /** Gives all leases back and sends what waits; resolves when that is answered, or is not. */
  async close(): Promise<void> {
    clearInterval(this.#returnTimer)
    for (const lease of this.#leases.values()) this.#giveBack(lease)
    this.#leases.clear()
    await this.#send()
  }

  #join(record: RedisRecord, cost: number): Job {
    const { kid } = record
    const open = this.#jobOf.get(kid)
    if (open !== undefined && open.cost === cost && open.record.limitText === record.limitText) return open
    const job: Job = { record, cost, waiters: [], wallMs: 0, lend: 0, back: 0, under: 0 }
    this.#jobOf.set(kid, job)
    const lease = this.#leases.get(kid)
    if (lease !== undefined) {
      this.#leases.delete(kid)
      if (lease.record.limitText === record.limitText) {
        job.back = lease.left
        job.under = lease.under
      }
    }
    this.#enqueue(job)
    return job
  }

  #enqueue(job: Job): void {
    const group = this.#groupOf(job)
    const waiting = this.#waiting.get(group)
    if (waiting === undefined) this.#waiting.set(group, [job])
    else waiting.push(job)
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(() => void this.#send())
  }

  async #send(): Promise<void> {
    this.#isScheduled = false
    const groups = [...this.#waiting.values()]
    this.#waiting.clear()
    this.#jobOf.clear()
    const calls: Promise<void>[] = []
    for (const jobs of groups) {
      for (let start = 0; start < jobs.length; start += KEYS_PER_CALL) {
        calls.push(this.#call(jobs.length <= KEYS_PER_CALL ? jobs : jobs.slice(start, start + KEYS_PER_CALL)))
      }
    }
    await Promise.all(calls)
  }

  #groupOf(job: Job | undefined): number {
    return this.#deps.connection.isCluster ? (job?.record.shard ?? 0) : 0
  }

  /** Never rejects: the waiters hear of it. */
  async #call(jobs: readonly Job[]): Promise<void> {
    const breaker = this.#deps.breakerOf(jobs[0]?.record.shard ?? 0)
    if (!breaker.admits()) return this.#fail(jobs, breaker.refusal())
    try {
      // A clock that was set looks like a call that came late: then the second attempt knows.
      if (!(await this.#attempt(jobs)) && !(await this.#attempt(jobs))) {
        throw new StoreUnavailable('the call reached Redis too late')
      }
      breaker.succeeded()
    } catch (error) {
      breaker.failed()
      this.#fail(jobs, error)
    }
  }

  /** `false`: the server said that it is too late, and has done nothing. */
  async #attempt(jobs: readonly Job[]): Promise<boolean> {
    const { connection, figures, time, timeoutMs, layout, lessees } = this.#deps
    const sentAt = time.monotonicMs()
    const overrideMs = time.overrideMs?.() ?? 0
    const clock = this.#clocks.get(this.#groupOf(jobs[0]))
    const isKnown = clock !== undefined && sentAt - clock.knownAt < CLOCK_KNOWN_MS && overrideMs === 0
    const notAfterMs = isKnown ? Math.ceil(sentAt + clock.aheadMs + timeoutMs) : 0
    const call = { layout, lessees: lessees(), overrideMs, notAfterMs }
    const { keys, args } = encodeJobs(jobs, call)
    figures.add('calls', 1)
    const reply = (await connection.run(timeoutMs, this.#script, keys, args)) as number[]
    const serverMs = reply[0] ?? 0
    const moment: Moment = { sentAt, serverMs, answeredAt: time.monotonicMs() }
    this.#clocks.set(this.#groupOf(jobs[0]), { aheadMs: serverMs + 1 - sentAt, knownAt: moment.answeredAt })
    if (reply.length === 1) return false
    for (let index = 0; index < jobs.length; index++) {
      const at = 3 * index + 1
      this.#answer(jobs[index] as Job, reply[at] ?? 0, reply[at + 1] ?? 0, reply[at + 2] ?? 0, moment)
    }
    return true
  }

  #answer(job: Job, got: number, remaining: number, last: number, moment: Moment): void {
    const { record, cost, waiters } = job
    if (got < 0) {
      this.#known.delete(record.kid)
      const problem = new StoreUnavailable('a bucket in Redis holds something else')
      for (const waiter of waiters) got === -1 ? waiter.resolve(STALE) : waiter.reject(problem)
      if (got !== -1) this.#deps.figures.add('failed', waiters.length)
      return
    }
    if (record.limit === undefined) return
    const known = this.#learn(record, record.limit, got, remaining, last, moment)
    const untilRefill = toUntilRefill(record.limit, last, moment.serverMs)
    let pool = got
    let denied = 0
    this.#deps.figures.add('asked', waiters.length)
    for (const waiter of waiters) {
      if (pool >= cost) {
        pool -= cost
        waiter.resolve(toResult('taken', known, remaining + pool, moment.answeredAt))
      } else {
        denied++
        waiter.resolve(toResult('denied', known, remaining + pool, moment.answeredAt))
      }
    }
    if (denied < waiters.length) this.#deps.stamp(record, job.wallMs)
    if (denied > 0) known.blockedUntil = moment.sentAt + Math.min(untilRefill, BLOCK_MS_MAX)
    if (pool > 0) {
      const older = this.#leases.get(record.kid)
      if (older !== undefined) this.#giveBack(older)
      const endsAt = moment.sentAt + Math.min(untilRefill, LEASE_MS_MAX)
      this.#leases.set(record.kid, { record, left: pool, endsAt, under: last })
    }
  }

  /**
   * Takes down what an answer tells, and counts what the server has forgotten since the last one;
   * not for leased buckets, into which others give back.
   */
  #learn(
    record: RedisRecord,
    limit: Limit,
    got: number,
    remaining: number,
    last: number,
    { serverMs, answeredAt }: Moment,
  ): Known {
    let known = this.#known.get(record.kid)
    if (known === undefined) {
      known = { limitText: '', remaining, last, serverMs, answeredAt, blockedUntil: 0, epoch: this.#epoch }
      this.#known.set(record.kid, known)
    } else if (known.epoch !== this.#epoch && known.limitText === record.limitText && !record.mayLease) {
      const before = { remaining: known.remaining, lastRefilledMs: known.last }
      const expected = refill(before, limit, record.createdAtMs, serverMs).remaining
      const forgotten = remaining + got - expected
      if (forgotten > 0) this.#deps.figures.add('forgotten', forgotten)
    }
    known.limitText = record.limitText
    known.remaining = remaining
    known.last = last
    known.serverMs = serverMs
    known.answeredAt = answeredAt
    known.blockedUntil = 0
    known.epoch = this.#epoch
    return known
  }

  #fail(jobs: readonly Job[], error: unknown): void {
    const failure =
      error instanceof StoreUnavailable ? error : new StoreUnavailable(textOf(error), { cause: error })
    for (const { waiters } of jobs) {
      this.#deps.figures.add('failed', waiters.length)
      for (const waiter of waiters) waiter.reject(failure)
    }
  }

  /** Tokens left of leases that are over go home, so that others may have them. */
  #returnEnded(): void {
    const now = this.#deps.time.monotonicMs()
    for (const [kid, lease] of this.#leases) {
      if (now < lease.endsAt) continue
      this.#leases.delete(kid)
      this.#giveBack(lease)
    }
  }

  #giveBack({ record, left, under }: Lease): void {
    if (left > 0) this.#enqueue({ record, cost: 0, waiters: [], wallMs: 0, lend: 0, back: left, under })
  }
}
