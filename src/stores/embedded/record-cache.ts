import type { MaybePromise, RecordSource } from '../../ports/stores.ts'
import { StoreUnavailable } from '../../ports/stores.ts'
import { BoundedMap } from '../bounded-map.ts'
import type { FromDirectory, ToDirectory } from './messages.ts'
import type { TableRecord } from './shared-table.ts'

/**
 * The records that one data-plane thread holds. What it does not hold it asks the control thread
 * for, all tokens of one turn in one message, each token once. Unknown tokens have a cache of their
 * own, so a flood of guesses cannot push real keys out.
 */

export interface RecordCacheOptions {
  /** Records kept; `store.cache_keys`. */
  readonly keysMax: number
  /** Unknown tokens kept; `store.cache_unknown`. */
  readonly unknownMax: number
  readonly post: (message: ToDirectory) => void
}

/** Tokens that may wait for the control thread; more are refused rather than kept in memory. */
const WAITING_MAX = 65_536
const TOKENS_PER_MESSAGE = 256
const ANSWER_TIMEOUT_MS = 2_000
const PARTS_MAX = 4_096
/**
 * An unknown token stays unknown: tokens are minted from 32 random bytes. The time only bounds the
 * surprise after someone edits the database by hand.
 */
const UNKNOWN_FOR_MS = 2_000

interface Question {
  readonly tokenHashes: readonly string[]
  readonly deadline: number
}

interface Waiter {
  readonly promise: Promise<TableRecord | undefined>
  readonly resolve: (record: TableRecord | undefined) => void
  readonly reject: (error: StoreUnavailable) => void
}

export class RecordCache implements RecordSource<TableRecord> {
  readonly #known: BoundedMap<TableRecord>
  readonly #unknownSince: BoundedMap<number>
  readonly #post: (message: ToDirectory) => void
  readonly #parts = new Map<string, Pick<TableRecord, 'ksid' | 'limit'>>()
  readonly #waiters = new Map<string, Waiter>()
  readonly #questions = new Map<number, Question>()
  readonly #timer: NodeJS.Timeout
  #unsent: string[] = []
  #lastId = 0

  constructor(options: RecordCacheOptions) {
    this.#known = new BoundedMap(options.keysMax)
    this.#unknownSince = new BoundedMap(options.unknownMax)
    this.#post = options.post
    this.#timer = setInterval(() => this.#expire(), 500)
    this.#timer.unref()
  }

  find(tokenHash: string): MaybePromise<TableRecord | undefined> {
    const record = this.#known.get(tokenHash)
    if (record !== undefined) return record
    const since = this.#unknownSince.get(tokenHash)
    if (since !== undefined && performance.now() - since < UNKNOWN_FOR_MS) return undefined
    return this.#ask(tokenHash)
  }

  forget(tokenHash: string): void {
    this.#known.delete(tokenHash)
  }

  receive(message: FromDirectory): void {
    switch (message.kind) {
      case 'found':
        for (const [index, tokenHash] of this.#answered(message.id).entries()) {
          this.#learn(tokenHash, message.records[index])
        }
        return
      case 'find-failed':
        for (const tokenHash of this.#answered(message.id)) this.#fail(tokenHash, message.internal)
        return
      case 'quiesce':
        this.#post({ kind: 'quiescent', round: message.round })
        return
      case 'forget':
        this.#known.clear()
        this.#unknownSince.clear()
        this.#post({ kind: 'forgot', id: message.id })
    }
  }

  close(): void {
    clearInterval(this.#timer)
    for (const tokenHash of [...this.#waiters.keys()]) this.#fail(tokenHash, 'the thread is stopping')
  }

  #ask(tokenHash: string): Promise<TableRecord | undefined> {
    const waiting = this.#waiters.get(tokenHash)
    if (waiting !== undefined) return waiting.promise
    if (this.#waiters.size >= WAITING_MAX) {
      return Promise.reject(new StoreUnavailable('too many tokens wait for the control thread'))
    }
    const waiter: Waiter = Promise.withResolvers<TableRecord | undefined>()
    this.#waiters.set(tokenHash, waiter)
    if (this.#unsent.length === 0) setImmediate(() => this.#send())
    this.#unsent.push(tokenHash)
    return waiter.promise
  }

  #send(): void {
    const deadline = performance.now() + ANSWER_TIMEOUT_MS
    const unsent = this.#unsent
    this.#unsent = []
    for (let start = 0; start < unsent.length; start += TOKENS_PER_MESSAGE) {
      const tokenHashes = unsent.slice(start, start + TOKENS_PER_MESSAGE)
      const id = ++this.#lastId
      this.#questions.set(id, { tokenHashes, deadline })
      this.#post({ kind: 'find', id, tokenHashes })
    }
  }

  #answered(id: number): readonly string[] {
    const question = this.#questions.get(id)
    this.#questions.delete(id)
    return question?.tokenHashes ?? []
  }

  #learn(tokenHash: string, record: TableRecord | undefined): void {
    const shared = record && this.#share(record)
    if (shared !== undefined) this.#known.set(tokenHash, shared)
    else this.#unknownSince.set(tokenHash, performance.now())
    this.#waiters.get(tokenHash)?.resolve(shared)
    this.#waiters.delete(tokenHash)
  }

  /**
   * Every message brings copies of its own. Keys of a keyspace mostly have the same limit, so one
   * object serves them all, and what others derive from a limit is found again.
   */
  #share(record: TableRecord): TableRecord {
    if (this.#parts.size >= PARTS_MAX) this.#parts.clear()
    const { ksid, limit } = record
    const name = `${ksid} ${limit?.capacity} ${limit?.rate} ${limit?.intervalMs}`
    let parts = this.#parts.get(name)
    if (parts === undefined) {
      parts = { ksid, limit }
      this.#parts.set(name, parts)
    }
    return { ...record, ...parts }
  }

  #fail(tokenHash: string, internal: string): void {
    this.#waiters.get(tokenHash)?.reject(new StoreUnavailable(internal))
    this.#waiters.delete(tokenHash)
  }

  #expire(): void {
    const now = performance.now()
    for (const [id, question] of this.#questions) {
      if (question.deadline > now) return
      this.#questions.delete(id)
      for (const tokenHash of question.tokenHashes)
        this.#fail(tokenHash, 'the control thread did not answer in time')
    }
  }
}
