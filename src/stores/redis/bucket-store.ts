import { type BucketState, type Limit, refill } from '../../domain/bucket.ts'
import type { StoreFigures } from '../../ports/store-figures.ts'
import { type BucketStore, type MaybePromise, StoreUnavailable, type TakeResult } from '../../ports/stores.ts'
import { BoundedMap } from '../bounded-map.ts'
import type { Breaker } from './breaker.ts'
import {
  type Batch,
  createBatch,
  createJob,
  HOT_CHECKS,
  type Job,
  type Known,
  LEASE_TOKENS_MAX,
  type Lease,
  type Moment,
  type ServerClock,
  toResult,
  toUntilRefill,
} from './bucket-jobs.ts'
import { type BucketCall, NO_BUCKET, NOT_DECIDED, runSteps, STALE, STEPS_PER_CALL } from './bucket-script.ts'
import { type Connection, textOf } from './connection.ts'
import type { Layout } from './layout.ts'
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

const LEASE_MS_MAX = 200
/** A bucket taken for empty is asked for again after this time: another node may have given tokens back. */
const BLOCK_MS_MAX = 1_000
const RETURN_EVERY_MS = 20
/** Two clocks drift apart, by some ms in this time: what was known of them before is not relied on. */
const CLOCK_KNOWN_MS = 60_000
const STALE_RESULT: TakeResult = { kind: 'stale', remaining: 0, lastRefilledMs: 0 }

/**
 * The buckets of one thread over Redis. All checks of one turn of the event loop go out together,
 * per shard; empty buckets are denied from memory until their next refill; hot ones are taken from
 * on lease. `take` rejects with `StoreUnavailable` where Redis does
 * not answer in time.
 */
export class RedisBuckets implements BucketStore<RedisRecord> {
  readonly #deps: BucketDeps
  readonly #known: BoundedMap<Known>
  readonly #leases = new Map<string, Lease>()
  /** Of this turn, by group: one for a single server, else one per shard. The last one may take more. */
  #batches = new Map<number, Batch[]>()
  /** The newest job of each key in this turn. */
  #jobOf = new Map<string, Job>()
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
    const job = this.#join(record, cost)
    job.wallMs = wallMs
    const place = job.checks++
    job.want += cost
    if (job.checks === HOT_CHECKS && cost === 1 && record.mayLease) job.lend = LEASE_TOKENS_MAX
    return job.batch.answered.then(() => toAnswer(job, place))
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
    void this.readClock()
  }

  /**
   * So that even the first call is not carried out late. In a cluster each shard has a clock, which
   * its first call tells. Never rejects.
   */
  async readClock(): Promise<void> {
    const { connection, time, timeoutMs } = this.#deps
    if (connection.isCluster) return
    const sentAt = time.monotonicMs()
    try {
      const [seconds, micros] = (await connection.call(timeoutMs, 'TIME', [])) as string[]
      const serverMs = Number(seconds) * 1_000 + Math.floor(Number(micros) / 1_000)
      this.#clocks.set(0, { aheadMs: serverMs + 1 - sentAt, knownAt: time.monotonicMs() })
    } catch {
      // The first call tells it.
    }
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
    if (open !== undefined && open.cost === cost && open.limitText === record.limitText) return open
    const job = this.#enqueue(record, cost)
    const lease = this.#leases.get(kid)
    if (lease !== undefined) {
      this.#leases.delete(kid)
      if (lease.record.limitText === record.limitText) {
        job.back = lease.left
        job.under = lease.under
      }
    }
    return job
  }

  #enqueue(record: RedisRecord, cost: number): Job {
    const { kid, shard } = record
    const batch = this.#openBatch(this.#deps.connection.isCluster ? shard : 0)
    if (this.#jobOf.has(kid)) batch.isDistinct = false
    const job = createJob(record, cost, this.#deps.layout.bucket(shard, kid), batch)
    this.#jobOf.set(kid, job)
    batch.jobs.push(job)
    return job
  }

  #openBatch(group: number): Batch {
    let batches = this.#batches.get(group)
    if (batches === undefined) {
      batches = []
      this.#batches.set(group, batches)
    }
    const last = batches.at(-1)
    if (last !== undefined && last.jobs.length < STEPS_PER_CALL) return last
    const batch = createBatch(group)
    batches.push(batch)
    if (!this.#isScheduled) {
      this.#isScheduled = true
      setImmediate(() => void this.#send())
    }
    return batch
  }

  async #send(): Promise<void> {
    this.#isScheduled = false
    const batches = [...this.#batches.values()].flat()
    // Not `clear`: a cleared map's old table points to the new one, and keeps it alive once it is old itself.
    this.#batches = new Map()
    this.#jobOf = new Map()
    await Promise.all(batches.map((batch) => this.#call(batch)))
  }

  /** Never rejects: those who wait hear of it. */
  async #call(batch: Batch): Promise<void> {
    const { jobs } = batch
    const breaker = this.#deps.breakerOf(jobs[0]?.record.shard ?? 0)
    if (!breaker.admits()) return this.#fail(batch, breaker.refusal())
    try {
      // A clock that was set looks like a call that came late: then the second attempt knows.
      if (!(await this.#attempt(batch)) && !(await this.#attempt(batch))) {
        throw new StoreUnavailable('the call reached Redis too late')
      }
      breaker.succeeded()
    } catch (error) {
      breaker.failed()
      this.#fail(batch, error)
    }
  }

  /** `false`: the server said that it is too late, and has done nothing. */
  async #attempt({ group, jobs, isDistinct, resolve }: Batch): Promise<boolean> {
    const { connection, figures, time, timeoutMs, lessees } = this.#deps
    const sentAt = time.monotonicMs()
    const overrideMs = time.overrideMs?.() ?? 0
    const clock = this.#clocks.get(group)
    const isKnown = clock !== undefined && sentAt - clock.knownAt < CLOCK_KNOWN_MS && overrideMs === 0
    const notAfterMs = isKnown ? Math.ceil(sentAt + clock.aheadMs + timeoutMs) : 0
    figures.add('calls', 1)
    // Lessees are doubled, so that two threads that ask at the same time leave something.
    const call = { timeoutMs, overrideMs, notAfterMs, lessees: 2 * lessees(), isDistinct }
    try {
      const { serverMs, isTooLate } = await runSteps(connection, jobs, call)
      const moment = this.#readMoment(group, sentAt, serverMs)
      if (isTooLate) return false
      for (const job of jobs) this.#learnFrom(job, moment)
    } catch (error) {
      if (jobs.length === 1 || !isBeingMoved(error)) throw error
      await Promise.all(jobs.map((job) => this.#attemptOne(group, job, call)))
      const failed = jobs.filter(({ got }) => got === NOT_DECIDED)
      if (failed.length === jobs.length) throw error
      for (const { checks } of failed) figures.add('failed', checks)
    }
    resolve()
    return true
  }

  /** While their slot moves to another node of the cluster, some buckets are there and some here. */
  async #attemptOne(group: number, job: Job, call: BucketCall): Promise<void> {
    const sentAt = this.#deps.time.monotonicMs()
    try {
      const { serverMs, isTooLate } = await runSteps(this.#deps.connection, [job], call)
      const moment = this.#readMoment(group, sentAt, serverMs)
      if (isTooLate) job.got = NOT_DECIDED
      else this.#learnFrom(job, moment)
    } catch {
      job.got = NOT_DECIDED
    }
  }

  #readMoment(group: number, sentAt: number, serverMs: number): Moment {
    const answeredAt = this.#deps.time.monotonicMs()
    this.#clocks.set(group, { aheadMs: serverMs + 1 - sentAt, knownAt: answeredAt })
    return { sentAt, serverMs, answeredAt }
  }

  #learnFrom(job: Job, moment: Moment): void {
    const { record, cost, checks, got, remaining, lastMs } = job
    job.serverMs = moment.serverMs
    if (got < 0) {
      this.#known.delete(record.kid)
      if (got === NO_BUCKET) this.#deps.figures.add('failed', checks)
      return
    }
    if (record.limit === undefined) return
    const known = this.#learn(record, record.limit, got, remaining, lastMs, moment)
    const untilRefill = toUntilRefill(record.limit, lastMs, moment.serverMs)
    this.#deps.figures.add('asked', checks)
    const left = got - checks * cost
    if (checks > 0 && got >= cost) this.#deps.stamp(record, job.wallMs)
    if (left < 0) known.blockedUntil = moment.sentAt + Math.min(untilRefill, BLOCK_MS_MAX)
    if (left > 0) {
      const older = this.#leases.get(record.kid)
      if (older !== undefined) this.#giveBack(older)
      const endsAt = moment.sentAt + Math.min(untilRefill, LEASE_MS_MAX)
      this.#leases.set(record.kid, { record, left, endsAt, under: lastMs })
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

  #fail({ jobs, reject }: Batch, error: unknown): void {
    for (const { checks } of jobs) this.#deps.figures.add('failed', checks)
    reject(error instanceof StoreUnavailable ? error : new StoreUnavailable(textOf(error), { cause: error }))
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
    if (left === 0) return
    const job = this.#enqueue(record, 0)
    job.back = left
    job.under = under
  }
}

/** The answer to one of the checks of a job; they are served in the order in which they came. */
function toAnswer({ got, cost, remaining, lastMs, serverMs }: Job, place: number): TakeResult {
  if (got === STALE) return STALE_RESULT
  if (got === NO_BUCKET) throw new StoreUnavailable('a bucket in Redis holds something else')
  if (got === NOT_DECIDED) throw new StoreUnavailable('a bucket is on its way to another node')
  const left = got - (place + 1) * cost
  if (left < 0) return { kind: 'denied', remaining, lastRefilledMs: lastMs, nowMs: serverMs }
  return { kind: 'taken', remaining: remaining + left, lastRefilledMs: lastMs, nowMs: serverMs }
}

/** The cluster did nothing, as not all keys of the call are on one node; after which the client asks others, in vain. */
function isBeingMoved(error: unknown): boolean {
  return /TRYAGAIN|redirections.*MOVED/.test(textOf(error))
}
