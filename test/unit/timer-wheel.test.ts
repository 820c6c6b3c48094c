import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Deadline, TICK_MS, TimerWheel } from '../../src/data-plane/timer-wheel.ts'

class Recorded extends Deadline {
  readonly firedAt: number[]

  constructor() {
    const firedAt: number[] = []
    super({ onDeadline: () => firedAt.push(performance.now()) })
    this.firedAt = firedAt
  }
}

describe('TimerWheel', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  it.each([1, 99, 100, 101, 500, 1500, 1600, 1700, 10_000, 60_000])(
    'ends a limit of %d ms neither early nor late',
    (limitMs) => {
      const wheel = new TimerWheel()
      const timed = new Recorded()
      wheel.arm(new Recorded(), 100_000)
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
    const [later, sooner, never] = [new Recorded(), new Recorded(), new Recorded()]
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
    const all = Array.from({ length: 5000 }, () => new Recorded())
    for (const [index, timed] of all.entries()) wheel.arm(timed, 1 + index)
    vi.advanceTimersByTime(5000 + 2 * TICK_MS)
    expect(all.every((timed) => timed.firedAt.length === 1)).toBe(true)
    expect(vi.getTimerCount()).toBe(0)
    wheel.arm(all[0] ?? new Recorded(), 100)
    vi.advanceTimersByTime(400)
    expect(all[0]?.firedAt).toHaveLength(2)
  })

  it('tells nobody any more, and holds on to nobody, once a deadline is released', async () => {
    vi.useRealTimers()
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    const wheel = new TimerWheel()
    let told = 0
    const arm = () => {
      const owner = { onDeadline: () => told++ }
      const deadline = new Deadline(owner)
      wheel.arm(deadline, 1)
      deadline.release()
      return new WeakRef(owner)
    }
    const owners = Array.from({ length: 100 }, arm)
    await new Promise((resolve) => setImmediate(resolve))
    collect()
    expect(owners.filter((owner) => owner.deref() !== undefined)).toEqual([])
    await new Promise((resolve) => setTimeout(resolve, 3 * TICK_MS))
    expect(told).toBe(0)
  })
})
