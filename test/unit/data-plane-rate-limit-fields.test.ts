import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { buildRateLimitFields, toRetryAfter } from '../../src/data-plane/rate-limit-fields.ts'
import type { Allowed, Limited } from '../../src/domain/decision.ts'
import { compileOne, valuesOf } from '../support/routes.ts'

const ietf = compileOne({ keyspace: 'ks_a' })
const both = compileOne({ keyspace: 'ks_a', ratelimit_headers: ['ietf', 'legacy'] })
const legacy = compileOne({ keyspace: 'ks_a', ratelimit_headers: ['legacy'] })

interface Numbers {
  capacity: number
  rate: number
  intervalMs: number
  remaining: number
  sinceRefillMs?: number
}

function allow({ capacity, rate, intervalMs, remaining, sinceRefillMs = 0 }: Numbers): Allowed {
  const nowMs = 1_700_000_000_000
  const limit = { capacity, rate, intervalMs }
  return {
    kind: 'allowed',
    kid: 'k_a',
    ksid: 'ks_a',
    limit,
    remaining,
    lastRefilledMs: nowMs - sinceRefillMs,
    nowMs,
  }
}

describe('the fields of a limit', () => {
  it('are those of the draft', () => {
    const decision = allow({ capacity: 100, rate: 10, intervalMs: 1000, remaining: 42, sinceRefillMs: 300 })
    expect(buildRateLimitFields(ietf, decision)).toEqual([
      ...['RateLimit-Policy', '"burst";q=100;w=10', 'RateLimit', '"burst";r=42;t=1'],
    ])
  })

  it('are the legacy ones too where the route says so, with the seconds to the next refill', () => {
    const decision = allow({ capacity: 5, rate: 1, intervalMs: 60_000, remaining: 0, sinceRefillMs: 500 })
    expect(buildRateLimitFields(both, decision)).toEqual([
      ...['RateLimit-Policy', '"burst";q=5;w=300', 'RateLimit', '"burst";r=0;t=60'],
      ...['X-RateLimit-Limit', '5', 'X-RateLimit-Remaining', '0', 'X-RateLimit-Reset', '60'],
    ])
    expect(buildRateLimitFields(legacy, decision)).toHaveLength(6)
  })

  it.each([
    [{ capacity: 100, rate: 30, intervalMs: 1000, remaining: 1 }, ';w=4', ';t=1'],
    [{ capacity: 1, rate: 5, intervalMs: 10, remaining: 1 }, ';w=1', ';t=1'],
    [{ capacity: 3, rate: 2, intervalMs: 1500, remaining: 1, sinceRefillMs: 400 }, ';w=3', ';t=2'],
    [{ capacity: 3, rate: 3, intervalMs: 5000, remaining: 3, sinceRefillMs: 999 }, ';w=5', ';t=5'],
    [{ capacity: 3, rate: 3, intervalMs: 5000, remaining: 3, sinceRefillMs: 7001 }, ';w=5', ';t=3'],
    [{ capacity: 3, rate: 3, intervalMs: 5000, remaining: 3, sinceRefillMs: 10_000 }, ';w=5', ';t=5'],
    [{ capacity: 3, rate: 3, intervalMs: 5000, remaining: 0, sinceRefillMs: -2000 }, ';w=5', ';t=7'],
    [{ capacity: 3, rate: 0, intervalMs: 5000, remaining: 0 }, '', ''],
    [{ capacity: 3, rate: 1, intervalMs: 0, remaining: 0 }, '', ''],
    [
      { capacity: 2 ** 31 - 1, rate: 1, intervalMs: 2 ** 53 - 1, remaining: 0 },
      ';w=999999999999999',
      ';t=9007199254741',
    ],
  ])('of %j have the window %s and the reset %s', (numbers, window, reset) => {
    const fields = buildRateLimitFields(both, allow(numbers))
    expect(valuesOf(fields, 'ratelimit-policy')).toEqual([`"burst";q=${numbers.capacity}${window}`])
    expect(valuesOf(fields, 'ratelimit')).toEqual([`"burst";r=${numbers.remaining}${reset}`])
    expect(valuesOf(fields, 'x-ratelimit-reset')).toEqual(reset === '' ? [] : [reset.slice(3)])
  })

  it('are absent for a key without a limit, and where the route sends none', () => {
    const decision = allow({ capacity: 5, rate: 1, intervalMs: 1000, remaining: 4 })
    expect(buildRateLimitFields(both, { ...decision, limit: undefined })).toEqual([])
    expect(buildRateLimitFields(compileOne({ keyspace: 'ks_a', ratelimit_headers: [] }), decision)).toEqual(
      [],
    )
    expect(buildRateLimitFields(compileOne(), decision)).toEqual([])
  })

  it('show a debt as nothing left', () => {
    const debt: Limited = {
      ...allow({ capacity: 5, rate: 1, intervalMs: 1000, remaining: -3 }),
      kind: 'limited',
      limit: { capacity: 5, rate: 1, intervalMs: 1000 },
      retryAfterMs: 4000,
    }
    expect(valuesOf(buildRateLimitFields(ietf, debt), 'ratelimit')).toEqual(['"burst";r=0;t=1'])
  })

  it('hold integers of RFC 9651 for every limit and state', () => {
    const natural = fc.integer({ min: 0, max: 2 ** 31 - 1 })
    const interval = fc.oneof(fc.maxSafeNat(), fc.integer({ min: 0, max: 10_000 }))
    fc.assert(
      fc.property(
        natural,
        natural,
        interval,
        natural,
        fc.maxSafeInteger(),
        (capacity, rate, intervalMs, remaining, sinceRefillMs) => {
          const fields = buildRateLimitFields(
            both,
            allow({ capacity: capacity + 1, rate, intervalMs, remaining, sinceRefillMs }),
          )
          expect(valuesOf(fields, 'ratelimit-policy')[0]).toMatch(/^"burst";q=\d{1,10}(;w=[1-9]\d{0,14})?$/)
          expect(valuesOf(fields, 'ratelimit')[0]).toMatch(/^"burst";r=\d{1,10}(;t=[1-9]\d{0,14})?$/)
        },
      ),
    )
  })
})

describe('Retry-After', () => {
  it.each([
    [0, '1'],
    [1, '1'],
    [106, '1'],
    [1000, '1'],
    [1001, '2'],
    [59_999, '60'],
    [undefined, undefined],
  ])('of %s ms is %s: whole seconds, never too early', (ms, expected) => {
    expect(toRetryAfter(ms)).toBe(expected)
  })
})
