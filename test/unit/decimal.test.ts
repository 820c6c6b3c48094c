import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { toDecimal, toThreeDigits } from '../../src/domain/decimal.ts'

describe('the digits of a whole number', () => {
  it('are those that String gives', () => {
    fc.assert(
      fc.property(fc.array(fc.maxSafeNat(), { minLength: 1, maxLength: 5 }), (numbers) => {
        for (const n of numbers)
          for (const near of [n, Math.max(0, n - 1), n % 1000, n % 1e6, n])
            expect(toDecimal(near)).toBe(String(near))
      }),
      { numRuns: 20_000 },
    )
  })

  it.each([0, 999, 1000, 1001, 999_999, 1_000_000, 1_000_999, 1_001_000, Number.MAX_SAFE_INTEGER])(
    'hold at the edges of groups: %i',
    (n) => expect(toDecimal(n)).toBe(String(n)),
  )

  it('are three where three are asked for', () => {
    expect([0, 7, 42, 999].map(toThreeDigits)).toEqual(['000', '007', '042', '999'])
    expect(toThreeDigits(1000)).toBe('000')
  })
})
