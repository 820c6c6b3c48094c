import { randomBytes } from 'node:crypto'
import type { Redis } from 'ioredis'
import { ALL_MARK, KEY_RECORDS_MARK, MARKS } from '../../domain/purge-marks.ts'
import type { PurgeOutcome } from '../../ports/purge.ts'
import type { PurgeCounters } from '../../ports/purge-counters.ts'
import type { Logger } from '../../ports/runtime.ts'
import { type Connection, openConnection, openSubscriber, type RedisSettings } from './connection.ts'
import { createLayout, type Layout } from './layout.ts'
import { leavePurges, type SyncAnswer, syncPurges, toPurgeChannel } from './purge-sync.ts'

/**
 * This node among those that share a Redis: hears of their purges and tells its own. It holds a
 * lease of 5 s, renewed every second; without one it gives nothing from its cache, so that a purge
 * need not wait for it any longer. The lease counts from before it was asked for, on a clock that
 * nobody sets; the one in Redis, which purges wait for, counts from after that.
 */
export interface PurgeFleet {
  purge(marks: readonly number[]): Promise<PurgeOutcome>
  /** Without waiting for anybody. */
  spread(marks: readonly number[]): void
  readonly era: string
  isUntouched(marks: readonly number[], since: number, era: string): boolean
  close(): Promise<void>
}

export interface PurgeFleetOptions {
  readonly settings: RedisSettings
  readonly counters: PurgeCounters
  /** Of the clock that the lease is kept in: never steps back. */
  readonly nowMs: () => number
  /** Drops what threads remember of keys; `false` where one has not confirmed it. */
  readonly forgetRecords: () => Promise<boolean>
  readonly logger: Logger
}

const LEASE_MS = 5_000
/** For clocks that do not run at the same pace, and threads that look a moment late. */
const LEASE_MARGIN_MS = 250
const RENEW_EVERY_MS = 1_000
const RETRY_MS = 200
const SYNC_TIMEOUT_MS = 1_000
const PURGE_MS_MAX = 6_000
const POLL_MS = 10
const POLL_MS_MAX = 100
const MARKS_PER_SYNC = 512
const MARKS_WAITING_MAX = 65_536
const FAILURES_MAX = 2

export function joinPurgeFleet(options: PurgeFleetOptions): PurgeFleet {
  return new Fleet(options)
}

interface Waiting {
  readonly marks: readonly number[]
  readonly done: (seq: number) => void
}

class Fleet implements PurgeFleet {
  readonly #options: PurgeFleetOptions
  readonly #connection: Connection
  readonly #layout: Layout
  readonly #node = `n-${randomBytes(9).toString('base64url')}`
  /** Number of the last purge of each mark, over all nodes. */
  readonly #purgedAt = new Float64Array(MARKS)
  readonly #ended: Promise<void>
  #era = ''
  #last = 0
  #waiting: Waiting[] = []
  #nodes: SyncAnswer['nodes'] = []
  #resetMs = 0
  #wantsNodes = 0
  #isWoken = false
  #wake: (() => void) | undefined
  #isClosed = false
  #failures = 0
  #subscriber: Redis | undefined
  #attempt = 0

  constructor(options: PurgeFleetOptions) {
    this.#options = options
    this.#layout = createLayout(options.settings.prefix)
    this.#connection = openConnection(options.settings, 'dripgate-purges')
    this.#connection.on('up', () => this.#wakeUp())
    this.#listen()
    this.#ended = this.#run()
  }

  get era(): string {
    return this.#era
  }

  isUntouched(marks: readonly number[], since: number, era: string): boolean {
    // A number that is not known here yet may be followed by purges that are not known either.
    if (era === '' || era !== this.#era || since > this.#last) return false
    return [ALL_MARK, ...marks].every((mark) => (this.#purgedAt[mark] ?? 0) <= since)
  }

  spread(marks: readonly number[]): void {
    if (this.#waiting.length < MARKS_WAITING_MAX) void this.#tell(marks)
  }

  async purge(marks: readonly number[]): Promise<PurgeOutcome> {
    const { counters, forgetRecords, nowMs } = this.#options
    const deadlineMs = nowMs() + PURGE_MS_MAX
    counters.raise(marks)
    const own = marks.includes(KEY_RECORDS_MARK) ? forgetRecords() : Promise.resolve(true)
    const told = this.#tell(marks)
    const seq = await Promise.race([told, sleep(PURGE_MS_MAX).then(() => undefined)])
    // It stays in the queue: the others hear of it as soon as Redis can be reached.
    if (seq === undefined)
      return { kind: 'pending', acknowledged: 1, pending: Math.max(1, this.#nodes.length - 1) }
    const toldAtMs = nowMs()
    if (!(await own)) return { kind: 'pending', acknowledged: 0, pending: 1 }
    return await this.#awaitNodes(seq, toldAtMs, deadlineMs)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    this.#wakeUp()
    this.#subscriber?.disconnect()
    await this.#ended
    if (this.#connection.isReady()) {
      await leavePurges(this.#connection, this.#layout, SYNC_TIMEOUT_MS, this.#node).catch(() => {})
    }
    this.#connection.close()
  }

  async #awaitNodes(seq: number, toldAtMs: number, deadlineMs: number): Promise<PurgeOutcome> {
    const { nowMs } = this.#options
    this.#wantsNodes++
    try {
      for (let pollMs = POLL_MS; ; pollMs = Math.min(2 * pollMs, POLL_MS_MAX)) {
        const isHeard = await this.#renewed()
        const others = this.#nodes.filter(({ node }) => node !== this.#node)
        const acknowledged = others.filter(({ applied }) => applied >= seq).length + 1
        const pending = others.length + 1 - acknowledged
        if (isHeard && pending === 0 && this.#resetMs <= 0) return { kind: 'done', acknowledged }
        // Leases from before the purge have run out, and later ones were given after it was heard.
        if (nowMs() - toldAtMs >= LEASE_MS) return { kind: 'done', acknowledged }
        if (nowMs() >= deadlineMs) return { kind: 'pending', acknowledged, pending: Math.max(1, pending) }
        await sleep(pollMs)
      }
    } finally {
      this.#wantsNodes--
    }
  }

  /** Resolves after the next talk with Redis, to whether it came about. */
  #renewed(): Promise<boolean> {
    return Promise.race([this.#tell([]).then(() => true), sleep(POLL_MS_MAX).then(() => false)])
  }

  /** Resolves to the number of the purge, once Redis has it. */
  #tell(marks: readonly number[]): Promise<number> {
    return new Promise((done) => {
      this.#waiting.push({ marks, done })
      this.#wakeUp()
    })
  }

  #wakeUp(): void {
    this.#isWoken = true
    this.#wake?.()
  }

  async #run(): Promise<void> {
    while (!this.#isClosed) {
      this.#isWoken = false
      const isSynced = await this.#sync().then(
        () => true,
        () => false,
      )
      this.#failures = isSynced ? 0 : this.#failures + 1
      if (this.#failures > 0 && this.#failures % FAILURES_MAX === 0) this.#connection.reconnect()
      if (isSynced && this.#isWoken) continue
      await this.#pause(isSynced ? RENEW_EVERY_MS : RETRY_MS, isSynced)
    }
  }

  #pause(ms: number, mayWake: boolean): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.#wake = undefined
        resolve()
      }
      const timer = setTimeout(done, ms)
      if (mayWake || this.#isClosed) this.#wake = done
    })
  }

  async #sync(): Promise<void> {
    const { counters, nowMs, forgetRecords } = this.#options
    const batch = takeBatch(this.#waiting)
    const marks = batch.flatMap((waiting) => waiting.marks)
    const askedAtMs = nowMs()
    const answer = await syncPurges(this.#connection, this.#layout, SYNC_TIMEOUT_MS, {
      node: this.#node,
      leaseMs: LEASE_MS,
      last: this.#last,
      era: this.#era,
      freshEra: randomBytes(9).toString('base64url'),
      wantsNodes: this.#wantsNodes > 0,
      marks,
    })
    this.#waiting = this.#waiting.filter((waiting) => !batch.includes(waiting))
    const raised = this.#learn(answer)
    if (raised.length > 0) counters.raise(raised)
    // Not acknowledged, and so without a new lease, until what is known of keys is dropped, too.
    if (raised.includes(KEY_RECORDS_MARK)) await forgetRecords()
    this.#era = answer.era
    this.#last = answer.seq
    counters.setFarSequence(answer.seq)
    counters.setLease(askedAtMs + LEASE_MS - LEASE_MARGIN_MS)
    if (this.#wantsNodes > 0) this.#nodes = answer.nodes
    this.#resetMs = answer.resetMs
    // At once again, to acknowledge.
    if (raised.length > 0) this.#wakeUp()
    for (const { done } of batch) done(answer.seq)
  }

  /** Gives what is to be raised here: what others have purged, and all where purges were lost. */
  #learn({ era, changes }: SyncAnswer): number[] {
    const raised: number[] = []
    if (era !== this.#era) {
      this.#purgedAt.fill(0)
      if (this.#era !== '') {
        raised.push(ALL_MARK)
        this.#options.logger.warn('Redis has lost purges; the response cache starts anew')
      }
    }
    for (const [mark, at] of changes) {
      this.#purgedAt[mark] = at
      // Also what was told just now: another node may have purged the same in between.
      if (this.#era !== '') raised.push(mark)
    }
    return raised
  }

  /** Only makes it quicker: what is not heard here is read within a second. */
  #listen(): void {
    if (this.#isClosed) return
    const subscriber = openSubscriber(this.#options.settings, 'dripgate-purges', this.#attempt++)
    this.#subscriber = subscriber
    subscriber.on('error', () => {})
    subscriber.on('message', () => this.#wakeUp())
    subscriber.on('ready', () => {
      subscriber.subscribe(toPurgeChannel(this.#layout)).catch(() => subscriber.disconnect())
    })
    subscriber.on('end', () => setTimeout(() => this.#listen(), RETRY_MS).unref())
  }
}

/** The first ones, up to as many marks as one talk may carry. */
function takeBatch(waiting: readonly Waiting[]): Waiting[] {
  let marks = 0
  return waiting.filter((each, index) => {
    marks += each.marks.length
    return index === 0 || marks <= MARKS_PER_SYNC
  })
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
