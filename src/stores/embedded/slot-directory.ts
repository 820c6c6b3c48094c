import { convert, gridFloor, type Limit, sameLimit } from '../../domain/bucket.ts'
import type { Clock } from '../../ports/runtime.ts'
import { StoreUnavailable } from '../../ports/stores.ts'
import { type Member, Quiescence } from './quiescence.ts'
import type { KeyRow } from './rows.ts'
import { NO_LIMIT, type SharedTable, type SlotState, type TableRecord } from './shared-table.ts'

/** What is known of a key whose slot ended, until the database has it. */
interface Ended {
  readonly state: SlotState
  readonly keyspaceSeq: number
  readonly anchorMs: number
  /** The key takes its limit from its keyspace. */
  readonly inherits: boolean
}

const EVICT_AT_ONCE = 1_024
/** States kept in memory for the database; far more than come together between two flushes. */
const ENDED_MAX = 500_000
/** A slot used within this time is only evicted when no older one is found nearby. */
const RECENT_MS = 1_000

/**
 * Which key has which slot of the shared table. Lives on the control thread, which alone opens and
 * retires slots. A key gets a slot when it is first asked for; the number of slots is fixed, so
 * when they run low the ones that were not used lately are evicted to the database.
 */
export class SlotDirectory {
  readonly #table: SharedTable
  readonly #clock: Clock
  readonly #quiescence: Quiescence
  readonly #slotOf = new Map<number, number>()
  readonly #ended = new Map<number, Ended>()
  readonly #free: number[] = []
  readonly #reserve: number
  #untouched = 0
  #hand = 0
  // By slot, for slots in use.
  readonly #limits: (Limit | undefined)[] = []
  readonly #anchors: Float64Array
  readonly #keyspaces: Float64Array
  readonly #inherits: Uint8Array

  constructor(table: SharedTable, clock: Clock) {
    this.#table = table
    this.#clock = clock
    this.#quiescence = new Quiescence((slots) => {
      for (const slot of slots) this.#free.push(slot)
    })
    this.#reserve = Math.max(EVICT_AT_ONCE, Math.floor(table.slots / 16))
    this.#anchors = new Float64Array(table.slots)
    this.#keyspaces = new Float64Array(table.slots)
    this.#inherits = new Uint8Array(table.slots)
  }

  get used(): number {
    return this.#slotOf.size
  }

  join(member: Member): void {
    this.#quiescence.join(member)
  }

  leave(member: Member): void {
    this.#quiescence.leave(member)
  }

  acknowledge(member: Member, round: number): void {
    this.#quiescence.acknowledge(member, round)
  }

  /** The record that threads check with. Throws `StoreUnavailable` when no slot can be had. */
  admit(row: KeyRow): TableRecord {
    const nowMs = this.#clock.bucketMs()
    const { limit } = row.key
    let slot = this.#slotOf.get(row.seq)
    if (slot !== undefined && (!sameLimit(this.#limits[slot], limit) || this.#table.isWorn(slot, nowMs))) {
      this.#end(slot)
      slot = undefined
    }
    slot ??= this.#open(row, nowMs)
    return {
      kid: row.key.kid,
      ksid: row.key.ksid,
      limit,
      createdAtMs: row.key.createdAtMs,
      expiresAtMs: row.key.expiresAt?.ms ?? Number.POSITIVE_INFINITY,
      slot,
      generation: this.#table.generation(slot),
      baseMs: this.#table.base(slot),
    }
  }

  /** The newest state of a key, in terms of the limit that it names; `undefined`: ask the database. */
  current(seq: number): SlotState | undefined {
    const slot = this.#slotOf.get(seq)
    return slot === undefined ? this.#ended.get(seq)?.state : this.#table.peek(slot)
  }

  /** After a change of the key's record: no thread uses the old one any more, the state goes on. */
  refresh(row: KeyRow): void {
    const slot = this.#slotOf.get(row.seq)
    if (slot !== undefined) this.#end(slot)
    const ended = this.#ended.get(row.seq)
    if (ended === undefined) return
    const { limit, createdAtMs, ownLimit } = row.key
    const state = toLimit(ended.state, limit, createdAtMs, this.#clock.bucketMs())
    this.#ended.set(row.seq, { ...ended, state, inherits: ownLimit === undefined })
  }

  /** After a delete: refused from here on, and forgotten. */
  drop(seq: number): void {
    const slot = this.#slotOf.get(seq)
    if (slot !== undefined) this.#end(slot)
    this.#ended.delete(seq)
  }

  dropKeyspace(keyspaceSeq: number): void {
    for (const seq of this.#keysOf(keyspaceSeq, () => true)) this.drop(seq)
  }

  /** After a change of a keyspace's limit: the keys that inherit it are converted at this instant. */
  convertKeyspace(keyspaceSeq: number, limit: Limit | undefined): void {
    const nowMs = this.#clock.bucketMs()
    for (const seq of this.#keysOf(keyspaceSeq, (inherits) => inherits)) {
      const slot = this.#slotOf.get(seq)
      if (slot !== undefined) this.#end(slot)
      const ended = this.#ended.get(seq)
      if (ended !== undefined)
        this.#ended.set(seq, { ...ended, state: toLimit(ended.state, limit, ended.anchorMs, nowMs) })
    }
  }

  /** States of ended slots that the database does not have yet; tell `written` when it has them. */
  unwritten(): SlotState[] {
    return Array.from(this.#ended.values(), (ended) => ended.state)
  }

  written(states: readonly SlotState[]): void {
    for (const state of states) {
      if (this.#ended.get(state.seq)?.state === state) this.#ended.delete(state.seq)
    }
  }

  #open(row: KeyRow, nowMs: number): number {
    const slot = this.#allocate()
    const { limit, createdAtMs, ownLimit } = row.key
    const ended = this.#ended.get(row.seq)
    const known = ended?.state ?? (row.stored && undoFuture(row.stored, createdAtMs, nowMs))
    const bare: SlotState = {
      seq: row.seq,
      bucket: undefined,
      lastUsedMs: undefined,
      limit: limit ?? NO_LIMIT,
    }
    const state = known === undefined ? bare : toLimit(known, limit, createdAtMs, nowMs)
    this.#table.open(slot, state, createdAtMs, nowMs)
    this.#slotOf.set(row.seq, slot)
    this.#limits[slot] = limit
    this.#anchors[slot] = createdAtMs
    this.#keyspaces[slot] = row.keyspaceSeq
    this.#inherits[slot] = ownLimit === undefined ? 1 : 0
    if (ended !== undefined) {
      this.#ended.delete(row.seq)
      this.#table.markDirty(slot)
    }
    return slot
  }

  #end(slot: number): void {
    const state = this.#table.retire(slot)
    this.#slotOf.delete(state.seq)
    this.#limits[slot] = undefined
    this.#ended.set(state.seq, {
      state,
      keyspaceSeq: this.#keyspaces[slot] as number,
      anchorMs: this.#anchors[slot] as number,
      inherits: this.#inherits[slot] === 1,
    })
    this.#quiescence.retire(slot)
  }

  #allocate(): number {
    if (this.#table.slots - this.#slotOf.size < this.#reserve) this.#evict()
    const slot = this.#free.pop()
    if (slot !== undefined) return slot
    if (this.#untouched < this.#table.slots) return this.#untouched++
    throw new StoreUnavailable('no free slot in the bucket table; a thread does not answer')
  }

  /** Ends slots that were not used lately. They become free when all threads have answered. */
  #evict(): void {
    // The database does not take the states of those that went before: a full disk, say.
    if (this.#ended.size >= ENDED_MAX) return
    const recent = this.#clock.wallMs() - RECENT_MS
    let ended = 0
    for (let looked = 0; looked < 8 * EVICT_AT_ONCE && ended < EVICT_AT_ONCE; looked++) {
      this.#hand = (this.#hand + 1) % this.#table.slots
      const slot = this.#hand
      if (this.#slotOf.get(this.#table.seq(slot)) !== slot) continue
      if (this.#table.lastUsed(slot) > recent && looked < 4 * EVICT_AT_ONCE) continue
      this.#end(slot)
      ended++
    }
  }

  #keysOf(keyspaceSeq: number, wanted: (inherits: boolean) => boolean): number[] {
    const keys: number[] = []
    for (const [seq, slot] of this.#slotOf) {
      if (this.#keyspaces[slot] === keyspaceSeq && wanted(this.#inherits[slot] === 1)) keys.push(seq)
    }
    for (const [seq, ended] of this.#ended) {
      if (ended.keyspaceSeq === keyspaceSeq && wanted(ended.inherits)) keys.push(seq)
    }
    return keys
  }
}

/**
 * After a restart on a clock that was set back, a stored refill may lie in the future. It is dated
 * back, or the key would get no refill until the clock has caught up.
 */
function undoFuture(state: SlotState, anchorMs: number, nowMs: number): SlotState {
  if (state.bucket === undefined || state.bucket.lastRefilledMs <= nowMs) return state
  const lastRefilledMs = gridFloor(state.limit, anchorMs, nowMs)
  return { ...state, bucket: { remaining: state.bucket.remaining, lastRefilledMs } }
}

/** A state in terms of another limit. */
export function toLimit(
  state: SlotState,
  limit: Limit | undefined,
  anchorMs: number,
  nowMs: number,
): SlotState {
  const from = state.limit.capacity === 0 ? undefined : state.limit
  if (sameLimit(from, limit)) return state
  const bucket = convert(state.bucket, { from, to: limit }, anchorMs, nowMs)
  return { ...state, bucket, limit: limit ?? NO_LIMIT }
}
