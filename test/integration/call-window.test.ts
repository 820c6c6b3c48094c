import { beforeEach, describe, expect, it } from 'vitest'
import { CALL_WINDOW_MS, type CallWindow } from '../../src/ports/call-window.ts'
import { createCallWindow } from '../../src/stores/embedded/call-window.ts'
import { createCallWindow as createRedisWindow } from '../../src/stores/redis/call-window.ts'
import { type Connection, openConnection } from '../../src/stores/redis/connection.ts'
import { createLayout } from '../../src/stores/redis/layout.ts'
import { FakeClock } from '../support/fakes.ts'
import { describeRedis, startRedis } from '../support/redis.ts'
import { uniquePrefix } from '../support/redis-store.ts'

describe('the window of calls in memory', () => {
  let clock: FakeClock
  let window: CallWindow
  beforeEach(() => {
    clock = new FakeClock()
    window = createCallWindow(clock)
  })
  const enter = async (limit = 60, caller = 'sk_a') => {
    const turn = await window.enter(caller, limit)
    return turn.kind === 'passed' ? 0 : turn.retryAfterMs
  }

  it('lets 60 through, then none before the first of them is more than 60 s old', async () => {
    for (let call = 0; call < 60; call++) {
      expect(await enter()).toBe(0)
      clock.now += 10
    }
    expect(await enter()).toBe(CALL_WINDOW_MS + 1 - 600)
    expect(await enter(60, 'sk_b')).toBe(0)
    clock.now += CALL_WINDOW_MS - 600
    expect(await enter()).toBe(1)
    clock.now += 1
    expect(await enter()).toBe(0)
    expect(await enter()).toBe(10)
  })

  it('counts no refused call, so a caller that keeps trying gets through at the time it was told', async () => {
    expect(await enter(1)).toBe(0)
    for (let second = 0; second < 60; second++) {
      clock.now += 1_000
      expect(await enter(1)).toBe(CALL_WINDOW_MS + 1 - (second + 1) * 1_000)
    }
    clock.now += 1
    expect(await enter(1)).toBe(0)
  })

  it('never lets more than the limit through in any window, whatever the times', async () => {
    const passed: number[] = []
    let seed = 7
    for (let call = 0; call < 5_000; call++) {
      seed = (seed * 48_271) % 2_147_483_647
      clock.now += seed % 3 === 0 ? seed % 4_000 : 0
      if ((await enter(7)) === 0) passed.push(clock.now)
    }
    expect(passed.length).toBeGreaterThan(100)
    for (const [index, at] of passed.entries()) {
      const inside = passed.slice(index).filter((other) => other - at <= CALL_WINDOW_MS)
      expect(inside.length).toBeLessThanOrEqual(7)
    }
  })

  it('takes a changed limit at once, and forgets nothing by it', async () => {
    for (let call = 0; call < 5; call++) expect(await enter(10)).toBe(0)
    expect(await enter(3)).toBeGreaterThan(0)
    for (let call = 0; call < 5; call++) expect(await enter(10)).toBe(0)
    expect(await enter(10)).toBe(CALL_WINDOW_MS + 1)
  })
})

describeRedis('the window of calls in Redis', () => {
  const withWindows = async (
    run: (
      nodes: readonly CallWindow[],
      connection: Connection,
      keyOf: (caller: string) => string,
    ) => Promise<void>,
  ) => {
    await using server = await startRedis()
    const layout = createLayout(uniquePrefix())
    const connections = ['a', 'b', 'c'].map((name) => openConnection({ url: server.url }, name))
    try {
      await Promise.all(connections.map((connection) => connection.ready(5_000)))
      const nodes = connections.map((connection) => createRedisWindow(connection, layout))
      await run(nodes, connections[0] as Connection, layout.callWindow)
    } finally {
      for (const connection of connections) connection.close()
    }
  }
  const timeOf = async (connection: Connection) => {
    const [seconds, micros] = (await connection.call(2_000, 'TIME', [])) as [string, string]
    return Number(seconds) * 1_000 + Math.floor(Number(micros) / 1_000)
  }

  it('is one for all nodes, and exact while all of them ask at the same time', async () => {
    await withWindows(async (nodes) => {
      const turns = await Promise.all(
        Array.from({ length: 180 }, (_, call) => nodes[call % 3]?.enter('sk_a', 60)),
      )
      const denied = turns.flatMap((turn) => (turn?.kind === 'denied' ? [turn.retryAfterMs] : []))
      expect(denied.length).toBe(120)
      for (const waitMs of denied) {
        expect(waitMs).toBeGreaterThan(CALL_WINDOW_MS - 10_000)
        expect(waitMs).toBeLessThanOrEqual(CALL_WINDOW_MS + 1)
      }
      expect(await nodes[1]?.enter('sk_b', 60)).toEqual({ kind: 'passed' })
    })
  })

  it('slides: a call passes once the one that stands in its way is more than 60 s old', async () => {
    await withWindows(async ([window], connection, keyOf) => {
      const now = await timeOf(connection)
      const key = keyOf('sk_a')
      await connection.call(2_000, 'RPUSH', [key, now - CALL_WINDOW_MS - 1, now - 30_000, now - 20_000])
      expect(await window?.enter('sk_a', 3)).toEqual({ kind: 'passed' })
      const turn = await window?.enter('sk_a', 3)
      expect(turn?.kind).toBe('denied')
      const waitMs = turn?.kind === 'denied' ? turn.retryAfterMs : 0
      expect(Math.abs(now - 30_000 + CALL_WINDOW_MS + 1 - (await timeOf(connection)) - waitMs)).toBeLessThan(
        5_000,
      )
      expect(await connection.call(2_000, 'LLEN', [key])).toBe(3)
    })
  })

  it('leaves nothing behind: the list expires with its last call', async () => {
    await withWindows(async ([window], connection, keyOf) => {
      await window?.enter('sk_a', 3)
      const leftMs = Number(await connection.call(2_000, 'PTTL', [keyOf('sk_a')]))
      expect(leftMs).toBeGreaterThan(CALL_WINDOW_MS - 10_000)
      expect(leftMs).toBeLessThanOrEqual(CALL_WINDOW_MS + 1)
    })
  })

  it('does not lock a caller out for long where the clock of the server was set back', async () => {
    await withWindows(async ([window], connection, keyOf) => {
      const future = (await timeOf(connection)) + 3_600_000
      await connection.call(2_000, 'RPUSH', [keyOf('sk_a'), future])
      expect(await window?.enter('sk_a', 2)).toEqual({ kind: 'passed' })
      const turn = await window?.enter('sk_a', 2)
      expect(turn).toEqual({ kind: 'denied', retryAfterMs: CALL_WINDOW_MS + 1 })
      expect(Number(await connection.call(2_000, 'PTTL', [keyOf('sk_a')]))).toBeLessThanOrEqual(
        CALL_WINDOW_MS + 1,
      )
    })
  })
})
