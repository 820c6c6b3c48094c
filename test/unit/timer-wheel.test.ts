import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { TICK_MS, type Timed, TimerWheel, UNARMED } from '../../src/data-plane/timer-wheel.ts'

interface Recorded extends Timed {
  readonly firedAt: number[]
}

function createTimed(): Recorded {
  const firedAt: number[] = []
  return { deadline: UNARMED, nextCheck: UNARMED, firedAt, onDeadline: () => firedAt.push(performance.now()) }
}

describe('TimerWheel', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  it.each([1, 99, 100, 101, 500, 1500, 1600, 1700, 10_000, 60_000])(
    'ends a limit of %d ms neither early nor late',
    (limitMs) => {
      const wheel = new TimerWheel()
      const timed = createTimed()
      wheel.arm(createTimed(), 100_000)
      vi.advanceTimersByTime(250)
      const startedAt = performance.now()
      wheel.arm(timed, limitMs)
      vi.advanceTimersByTime(limitMs - 1)
      expect(timed.firedAt).toEqual([])
      vi.advanceTimersByTime(2 * TICK_MS + 1)
      expect(timed.firedAt).toHaveLength(1)
      expect((timed.firedAt[0] ?? 0) - startedAt).toBeGreaterThanOrEqual(limitMs)
      vi.advanceTimersByTime(100_000)
      expect(timed.firedAt).toHaveLength(1)
    },
  )

  it('follows a deadline that is put off, moved up or taken away', () => {
    const wheel = new TimerWheel()
    const [later, sooner, never] = [createTimed(), createTimed(), createTimed()]
    wheel.arm(later, 500)
    wheel.arm(sooner, 60_000)
    wheel.arm(never, 500)
    vi.advanceTimersByTime(400)
    wheel.arm(later, 5000)
    wheel.arm(sooner, 300)
    wheel.disarm(never)
    vi.advanceTimersByTime(600)
    expect([later.firedAt.length, sooner.firedAt.length, never.firedAt.length]).toEqual([0, 1, 0])
    vi.advanceTimersByTime(5000)
    expect([later.firedAt.length, sooner.firedAt.length, never.firedAt.length]).toEqual([1, 1, 0])
  })

  it('holds thousands at once, and stops its timer when it holds none', () => {
    const wheel = new TimerWheel()
    const all = Array.from({ length: 5000 }, createTimed)
    for (const [index, timed] of all.entries()) wheel.arm(timed, 1 + index)
    vi.advanceTimersByTime(5000 + 2 * TICK_MS)
    expect(all.every((timed) => timed.firedAt.length === 1)).toBe(true)
    expect(vi.getTimerCount()).toBe(0)
    wheel.arm(all[0] ?? createTimed(), 100)
    vi.advanceTimersByTime(400)
    expect(all[0]?.firedAt).toHaveLength(2)
  })
})
