import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type BucketState,
  convert,
  fullState,
  type Limit,
  refill,
  refills,
  take,
  untilFits,
  untilNextRefill,
} from '../../src/domain/bucket.ts'
import { anyLimit, anyTrace, refillingLimit, type Step } from '../support/arbitraries.ts'

const ANCHOR = 1_700_000_000_123

/** Runs a trace and gives, for each step, the instant and what was admitted. */
function run(limit: Limit, trace: readonly Step[], forget: (state: BucketState) => boolean = () => false) {
  let state: BucketState | undefined
  let now = ANCHOR
  return trace.map(({ afterMs, cost }) => {
    now += afterMs
    const result = take(state, limit, ANCHOR, now, cost)
    state = forget(result.state) ? undefined : result.state
    return { now, cost, ...result }
  })
}

describe('the token bucket', () => {
  it('never holds more than its capacity, nor less than nothing', () => {
    fc.assert(
      fc.property(anyLimit, anyTrace, (limit, trace) => {
        for (const { state } of run(limit, trace)) {
          expect(state.remaining).toBeGreaterThanOrEqual(0)
          expect(state.remaining).toBeLessThanOrEqual(limit.capacity)
        }
      }),
    )
  })

  it('admits, between any two instants, at most the capacity and the refills between them', () => {
    fc.assert(
      fc.property(refillingLimit, anyTrace, (limit, trace) => {
        const steps = run(
          limit,
          trace.map((step) => ({ ...step, afterMs: Math.abs(step.afterMs) % 100 })),
        )
        for (let from = 0; from < steps.length; from++) {
          let admitted = 0
          for (let to = from; to < steps.length; to++) {
            const [first, last] = [steps[from], steps[to]]
            if (first === undefined || last === undefined) throw new Error('out of range')
            if (last.allowed) admitted += last.cost
            const gridAt = (now: number) => Math.floor((now - ANCHOR) / limit.intervalMs)
            const refillsBetween = gridAt(last.now) - gridAt(first.now)
            expect(admitted).toBeLessThanOrEqual(limit.capacity + refillsBetween * limit.rate)
          }
        }
      }),
    )
  })

  it('loses no fraction of an interval: one request per 1.9 intervals gets every refill', () => {
    const limit = { capacity: 1000, rate: 1, intervalMs: 1000 }
    let state: BucketState | undefined = { remaining: 0, lastRefilledMs: ANCHOR }
    for (let now = ANCHOR; now <= ANCHOR + 190_000; now += 1_900) {
      state = refill(state, limit, ANCHOR, now)
    }
    expect(state).toEqual({ remaining: 190, lastRefilledMs: ANCHOR + 190_000 })
  })

  it('gives the same answers whether a full bucket is kept or forgotten', () => {
    fc.assert(
      fc.property(refillingLimit, anyTrace, (limit, trace) => {
        const forward = trace.map((step) => ({ ...step, afterMs: Math.abs(step.afterMs) }))
        const kept = run(limit, forward)
        const forgotten = run(limit, forward, (state) => state.remaining === limit.capacity)
        expect(forgotten).toEqual(kept)
      }),
    )
  })

  it('refills nothing when the clock steps back, and nothing twice', () => {
    const limit = { capacity: 10, rate: 5, intervalMs: 100 }
    const spent: BucketState = { remaining: 0, lastRefilledMs: ANCHOR + 500 }
    expect(refill(spent, limit, ANCHOR, ANCHOR + 10)).toEqual(spent)
    expect(refill(spent, limit, ANCHOR, ANCHOR + 600)).toEqual({ remaining: 5, lastRefilledMs: ANCHOR + 600 })
  })

  it.each([
    { capacity: 3, rate: 0, intervalMs: 1000 },
    { capacity: 3, rate: 5, intervalMs: 0 },
  ])('never refills with rate $rate and interval $intervalMs', (limit) => {
    expect(refills(limit)).toBe(false)
    const answers = run(
      limit,
      [1, 1, 1, 1].map((cost) => ({ afterMs: 1e9, cost })),
    ).map((step) => step.allowed)
    expect(answers).toEqual([true, true, true, false])
    const empty = { remaining: 0, lastRefilledMs: ANCHOR }
    expect(untilFits(empty, limit, ANCHOR, 1)).toBeUndefined()
    expect(untilNextRefill(empty, limit, ANCHOR)).toBeUndefined()
  })

  it('says when a cost fits, and takes it at that instant and not a millisecond before', () => {
    fc.assert(
      fc.property(
        refillingLimit,
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 0, max: 500 }),
        (limit, cost, age) => {
          const now = ANCHOR + age
          const empty = { remaining: 0, lastRefilledMs: fullState(limit, ANCHOR, now).lastRefilledMs }
          const wait = untilFits(empty, limit, now, cost)
          if (cost > limit.capacity) {
            expect(wait).toBeUndefined()
            return
          }
          if (wait === undefined) throw new Error('a refilling bucket must say when the cost fits')
          expect(take(empty, limit, ANCHOR, now + wait, cost).allowed).toBe(true)
          expect(take(empty, limit, ANCHOR, now + wait - 1, cost).allowed).toBe(false)
        },
      ),
    )
  })

  it('takes a cost as a whole or not at all', () => {
    const limit = { capacity: 10, rate: 1, intervalMs: 1000 }
    const first = take(undefined, limit, ANCHOR, ANCHOR, 7)
    expect(first).toEqual({ allowed: true, state: { remaining: 3, lastRefilledMs: ANCHOR } })
    expect(take(first.state, limit, ANCHOR, ANCHOR, 4)).toEqual({ allowed: false, state: first.state })
    expect(take(first.state, limit, ANCHOR, ANCHOR, 3).allowed).toBe(true)
  })

  it('survives numbers whose product exceeds 2^53', () => {
    const limit = { capacity: 2 ** 31 - 1, rate: 2 ** 31 - 1, intervalMs: 1 }
    const state = refill({ remaining: 0, lastRefilledMs: 0 }, limit, 0, 2 ** 52)
    expect(state).toEqual({ remaining: 2 ** 31 - 1, lastRefilledMs: 2 ** 52 })
  })
})

describe('a changed limit', () => {
  const limitOf = (capacity: number): Limit => ({ capacity, rate: 0, intervalMs: 0 })

  it('keeps what was used: raising helps at once, lowering holds at once', () => {
    const state = { remaining: 70, lastRefilledMs: ANCHOR }
    const to = (capacity: number) =>
      convert(state, { from: limitOf(100), to: limitOf(capacity) }, ANCHOR, ANCHOR)
    expect(to(200)?.remaining).toBe(170)
    expect(to(40)?.remaining).toBe(10)
    expect(to(20)?.remaining).toBe(-10)
  })

  it('admits no more than the highest limit that was in force, whatever the order of changes', () => {
    const changes = fc.array(fc.tuple(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 0, max: 10 })), {
      minLength: 1,
    })
    fc.assert(
      fc.property(changes, (trace) => {
        let state: BucketState | undefined
        let limit: Limit | undefined
        let admitted = 0
        for (const [capacity, tries] of trace) {
          const to = limitOf(capacity)
          if (limit !== undefined) state = convert(state, { from: limit, to }, ANCHOR, ANCHOR)
          limit = to
          for (let n = 0; n < tries; n++) {
            const result = take(state, to, ANCHOR, ANCHOR, 1)
            state = result.state
            if (result.allowed) admitted++
            if (result.allowed) expect(admitted).toBeLessThanOrEqual(capacity)
          }
        }
      }),
    )
  })

  it('moves the last refill to the grid of the new limit, so that forgetting stays invisible', () => {
    const from = { capacity: 10, rate: 1, intervalMs: 1_000 }
    const to = { capacity: 10, rate: 1, intervalMs: 60_000 }
    const now = ANCHOR + 61_500
    const state = convert({ remaining: 3, lastRefilledMs: ANCHOR + 61_000 }, { from, to }, ANCHOR, now)
    expect(state).toEqual({ remaining: 3, lastRefilledMs: ANCHOR + 60_000 })
  })

  it('leaves a full bucket full', () => {
    const change = { from: limitOf(5), to: limitOf(9) }
    expect(convert(undefined, change, ANCHOR, ANCHOR)).toBeUndefined()
    expect(convert({ remaining: 5, lastRefilledMs: ANCHOR }, change, ANCHOR, ANCHOR)).toBeUndefined()
    expect(
      convert({ remaining: 0, lastRefilledMs: ANCHOR }, { from: undefined, to: limitOf(3) }, ANCHOR, ANCHOR),
    ).toBeUndefined()
  })
})
