import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type BucketState, type Limit, take } from '../../src/domain/bucket.ts'
import {
  createTableMemory,
  SharedTable,
  type TableMemory,
  type TableRecord,
} from '../../src/stores/embedded/shared-table.ts'
import { anyLimit, anyTrace } from '../support/arbitraries.ts'

const ANCHOR = 1_700_000_000_123

function openSlot(table: SharedTable, slot: number, limit: Limit | undefined, nowMs = ANCHOR): TableRecord {
  const shown = limit ?? { capacity: 0, rate: 0, intervalMs: 0 }
  table.open(slot, { seq: slot + 1, bucket: undefined, lastUsedMs: undefined, limit: shown }, ANCHOR, nowMs)
  return {
    kid: 'k_a',
    ksid: 'ks_a',
    limit,
    createdAtMs: ANCHOR,
    expiresAtMs: Number.POSITIVE_INFINITY,
    slot,
    generation: table.generation(slot),
    baseMs: table.base(slot),
  }
}

/** Each thread makes `tries` attempts on one slot and says how many were admitted. */
function hammer(memory: TableMemory, record: TableRecord, tries: number): Promise<number> {
  const code = `
    const { parentPort, workerData } = require('node:worker_threads')
    import(workerData.module).then(({ SharedTable }) => {
      const table = new SharedTable(workerData.memory)
      let admitted = 0
      for (let n = 0; n < workerData.tries; n++) {
        if (table.take(workerData.record, 1, workerData.record.createdAtMs, 1).kind === 'taken') admitted++
      }
      parentPort.postMessage(admitted)
    })`
  const module = new URL('../../src/stores/embedded/shared-table.ts', import.meta.url).href
  const worker = new Worker(code, { eval: true, workerData: { module, memory, record, tries } })
  return new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
}

describe('the shared bucket table', () => {
  it('gives the answers of the pure function for any limit and any trace', () => {
    fc.assert(
      fc.property(anyLimit, anyTrace, (limit, trace) => {
        const table = new SharedTable(createTableMemory(64))
        const record = openSlot(table, 7, limit)
        let state: BucketState | undefined
        let now = ANCHOR
        for (const { afterMs, cost } of trace) {
          now += afterMs
          const expected = take(state, limit, ANCHOR, now, cost)
          const actual = table.take(record, cost, now, now)
          // A free check leaves no trace in the table; refills are found again at the next one.
          if (expected.allowed && cost > 0) state = expected.state
          expect(actual).toEqual({
            kind: expected.allowed ? 'taken' : 'denied',
            remaining: expected.state.remaining,
            lastRefilledMs: expected.state.lastRefilledMs,
          })
        }
      }),
      { numRuns: 500 },
    )
  })

  it('admits exactly the limit from two threads at once', async () => {
    const memory = createTableMemory(64)
    const record = openSlot(new SharedTable(memory), 3, { capacity: 100_000, rate: 0, intervalMs: 0 })
    const admitted = await Promise.all([hammer(memory, record, 400_000), hammer(memory, record, 400_000)])
    expect(admitted.reduce((sum, n) => sum + n)).toBe(100_000)
  })

  it('lets nothing through once a slot is retired, and hands out its final state', () => {
    const table = new SharedTable(createTableMemory(64))
    const record = openSlot(table, 0, { capacity: 5, rate: 1, intervalMs: 1000 })
    table.take(record, 2, ANCHOR, ANCHOR + 5)
    const final = table.retire(0)
    expect(final).toMatchObject({
      seq: 1,
      bucket: { remaining: 3, lastRefilledMs: ANCHOR },
      lastUsedMs: ANCHOR + 5,
    })
    expect(table.take(record, 1, ANCHOR, ANCHOR).kind).toBe('stale')
    expect(table.peek(0)).toBeUndefined()
  })

  it('keeps a record of the former owner out of a slot that was given to another key', () => {
    const table = new SharedTable(createTableMemory(64))
    const former = openSlot(table, 0, { capacity: 5, rate: 0, intervalMs: 0 })
    table.retire(0)
    const next = openSlot(table, 0, { capacity: 1, rate: 0, intervalMs: 0 })
    expect(table.take(former, 1, ANCHOR, ANCHOR).kind).toBe('stale')
    expect(table.take(next, 1, ANCHOR, ANCHOR).kind).toBe('taken')
    expect(table.take(next, 1, ANCHOR, ANCHOR).kind).toBe('denied')
  })

  it('refuses a retired slot for keys without a limit too', () => {
    const table = new SharedTable(createTableMemory(64))
    const record = openSlot(table, 9, undefined)
    expect(table.take(record, 1, ANCHOR, ANCHOR).kind).toBe('taken')
    table.retire(9)
    expect(table.take(record, 1, ANCHOR, ANCHOR).kind).toBe('stale')
  })

  it('asks for a new slot when the ticks of this one run out', () => {
    const table = new SharedTable(createTableMemory(64))
    const record = openSlot(table, 0, { capacity: 5, rate: 1, intervalMs: 1 })
    const days30 = 30 * 86_400_000
    expect(table.isWorn(0, ANCHOR)).toBe(false)
    expect(table.isWorn(0, ANCHOR + days30)).toBe(true)
    expect(table.take(record, 1, ANCHOR + days30, ANCHOR).kind).toBe('stale')
  })

  it('hands each change to the flusher once, with the state in terms of its limit', () => {
    const table = new SharedTable(createTableMemory(128))
    const limit = { capacity: 5, rate: 0, intervalMs: 0 }
    const records = [openSlot(table, 31, limit), openSlot(table, 32, limit), openSlot(table, 100, limit)]
    for (const record of records) table.take(record, 1, ANCHOR, ANCHOR + 1)
    const drained = [...table.drainDirty()]
    expect(drained.map((state) => state.slot).sort((a, b) => a - b)).toEqual([31, 32, 100])
    expect(drained[0]).toMatchObject({
      bucket: { remaining: 4, lastRefilledMs: ANCHOR },
      lastUsedMs: ANCHOR + 1,
      limit,
    })
    expect([...table.drainDirty()]).toEqual([])
  })

  it('carries a debt, and lets nothing through until it is worked off', () => {
    const table = new SharedTable(createTableMemory(64))
    const limit = { capacity: 10, rate: 1, intervalMs: 1000 }
    const record = openSlot(table, 0, limit)
    table.open(
      0,
      { seq: 1, bucket: { remaining: -3, lastRefilledMs: ANCHOR }, lastUsedMs: undefined, limit },
      ANCHOR,
      ANCHOR,
    )
    expect(table.take(record, 1, ANCHOR + 3_000, 1)).toEqual({
      kind: 'denied',
      remaining: 0,
      lastRefilledMs: ANCHOR + 3_000,
    })
    expect(table.take(record, 1, ANCHOR + 4_000, 1).kind).toBe('taken')
  })
})
