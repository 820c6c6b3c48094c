import fc from 'fast-check'
import type { Limit } from '../../src/domain/bucket.ts'

/** Limits of every kind: tiny and huge, refilling and not. */
export const anyLimit: fc.Arbitrary<Limit> = fc.record({
  capacity: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 2 ** 31 - 1 })),
  rate: fc.oneof(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 2 ** 31 - 1 })),
  intervalMs: fc.oneof(fc.integer({ min: 0, max: 50 }), fc.integer({ min: 0, max: 2 ** 53 - 1 })),
})

export const refillingLimit: fc.Arbitrary<Limit> = fc.record({
  capacity: fc.integer({ min: 1, max: 20 }),
  rate: fc.integer({ min: 1, max: 7 }),
  intervalMs: fc.integer({ min: 1, max: 40 }),
})

export interface Step {
  /** Milliseconds since the step before; negative when the clock steps back. */
  readonly afterMs: number
  readonly cost: number
}

/** Traces with bursts, pauses and clocks that step back. */
export const anyTrace: fc.Arbitrary<Step[]> = fc.array(
  fc.record({
    afterMs: fc.oneof(
      { weight: 6, arbitrary: fc.integer({ min: 0, max: 30 }) },
      { weight: 2, arbitrary: fc.integer({ min: 0, max: 100_000 }) },
      { weight: 1, arbitrary: fc.integer({ min: -200, max: 0 }) },
    ),
    cost: fc.oneof(
      { weight: 5, arbitrary: fc.constant(1) },
      { weight: 2, arbitrary: fc.integer({ min: 0, max: 9 }) },
    ),
  }),
  { minLength: 1, maxLength: 80 },
)
