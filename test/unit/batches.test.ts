import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { runBatches } from '../../src/stores/batches.ts'

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] })
})
afterEach(() => {
  vi.useRealTimers()
})

const KEYS = Array.from({ length: 3_500 }, (_, index) => `k${index}`)
const isOdd = (key: string) => Number(key.slice(1)) % 2 === 1

it('works a list off in order, at most 1,000 at a time', async () => {
  const sizes: number[] = []
  const seen: string[] = []
  const outcome = await runBatches(KEYS, async (batch) => {
    sizes.push(batch.length)
    seen.push(...batch)
    return { done: batch.length - 1, failed: [] }
  })
  expect(sizes).toEqual([1_000, 1_000, 1_000, 500])
  expect(seen).toEqual(KEYS)
  expect(outcome).toEqual({ done: 3_496, failed: [] })
})

it('goes on after a batch of which a part failed, and remembers the first cause', async () => {
  let batches = 0
  const outcome = await runBatches(KEYS, async (batch) => {
    batches++
    return { done: 0, failed: batch.filter(isOdd), cause: new Error(`batch ${batches}`) }
  })
  expect(batches).toBe(4)
  expect(outcome.failed).toEqual(KEYS.filter(isOdd))
  expect(outcome.cause).toEqual(new Error('batch 1'))
})

it('ends after a batch that failed as a whole, and tells the rest as failed', async () => {
  let batches = 0
  const outcome = await runBatches(KEYS, async (batch) => {
    batches++
    return batches === 1 ? { done: 1_000, failed: [] } : { done: 0, failed: batch, cause: new Error('away') }
  })
  expect(batches).toBe(2)
  expect(outcome).toEqual({ done: 1_000, failed: KEYS.slice(1_000), cause: new Error('away') })
})

it('begins nothing after 5 s', async () => {
  let batches = 0
  const outcome = await runBatches(KEYS, async (batch) => {
    batches++
    vi.advanceTimersByTime(2_500)
    return { done: batch.length, failed: [] }
  })
  expect(batches).toBe(2)
  expect(outcome).toMatchObject({ done: 2_000, failed: KEYS.slice(2_000) })
  expect(outcome.cause).toBeInstanceOf(Error)
})
