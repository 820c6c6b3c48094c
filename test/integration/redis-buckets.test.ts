import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type BucketState, convert, fullState, type Limit, sameLimit, take } from '../../src/domain/bucket.ts'
import type { StoreFigure } from '../../src/ports/store-figures.ts'
import {
  type BucketStep,
  createStep,
  NO_BUCKET,
  runSteps,
  STALE,
} from '../../src/stores/redis/bucket-script.ts'
import { type Connection, openConnection } from '../../src/stores/redis/connection.ts'
import type { RedisRecord } from '../../src/stores/redis/records.ts'
import { anyLimit, anyTrace } from '../support/arbitraries.ts'
import { describeRedis, type RedisServer, startRedis, until } from '../support/redis.ts'
import { openTestNode, recordOf, type TestNode, uniquePrefix } from '../support/redis-store.ts'
import { type Admission, worstExcess } from '../support/windows.ts'

/** Random steps against the pure function; `DRIPGATE_STEPS=100000` for the long run. */
const STEPS = Number(process.env['DRIPGATE_STEPS'] ?? 20_000)
/** How long each pattern of load lasts; `DRIPGATE_PATTERN_MS=20000` for the long run. */
const PATTERN_MS = Number(process.env['DRIPGATE_PATTERN_MS'] ?? 3_000)
const START = 1_700_000_000_123

describeRedis('buckets in Redis', () => {
  let server: RedisServer
  let nodes: TestNode[]
  let prefix: string
  beforeAll(async () => {
    server = await startRedis()
    prefix = uniquePrefix()
    nodes = await Promise.all(Array.from({ length: 4 }, () => openTestNode({ url: server.url, prefix })))
    await until(() => nodes.every((node) => node.figure('isDeaf') === 0))
  }, 30_000)
  afterAll(async () => {
    await Promise.all((nodes ?? []).map((node) => node.close()))
    await server?.close()
  })
  const nodeAt = (index: number): TestNode => nodes[index % nodes.length] as TestNode
  const sumFigures = () => {
    const sum = (name: StoreFigure) => nodes.reduce((total, node) => total + node.figure(name), 0)
    return { calls: sum('calls'), leased: sum('leased') }
  }

  it(`give the answers of the pure function over ${STEPS} random steps, limits that change included`, async () => {
    const connection = openConnection({ url: server.url }, 'model')
    await connection.ready(5_000)
    const model = uniquePrefix()
    let steps = 0
    let traces = 0
    while (steps < STEPS) {
      const [sample] = fc.sample(fc.tuple(fc.array(anyLimit, { minLength: 1, maxLength: 3 }), anyTrace), 1)
      if (sample === undefined) continue
      const [limits, trace] = sample
      const key = `${model}{b0}:model${traces++}`
      let [state, now, at]: [BucketState | undefined, number, number] = [undefined, START, 0]
      let limit = limits[0] as Limit
      const calls: Promise<BucketStep>[] = []
      const expected: (readonly [allowed: boolean, state: BucketState])[] = []
      for (const [index, step] of trace.entries()) {
        // Set back before a change, a clock finds the bucket as the change left it; the pure function has
        // no memory of a full one.
        now = Math.max(now + step.afterMs, at)
        const next = limits[Math.floor(index / 10) % limits.length] as Limit
        if (!sameLimit(next, limit)) {
          state = convert(state, { from: limit, to: next }, START, now)
          limit = next
          at = now
        }
        const text = `${limit.capacity} ${limit.rate} ${limit.intervalMs} ${Math.max(at, 0)}`
        const asked = { want: step.cost, unit: Math.max(step.cost, 1), isForced: true }
        calls.push(runStep(connection, key, now, text, asked))
        const result = take(state, limit, START, now, step.cost)
        state = result.allowed && step.cost > 0 ? result.state : (state ?? undefined)
        expected.push([result.allowed, result.state])
      }
      for (const [index, { got, remaining, lastMs: last }] of (await Promise.all(calls)).entries()) {
        const [allowed, after] = expected[index] ?? [false, fullState(limit, START, now)]
        expect({ index, allowed: got === trace[index]?.cost, remaining, last }).toEqual({
          index,
          allowed,
          remaining: after.remaining,
          last: after.lastRefilledMs,
        })
      }
      steps += trace.length
    }
    connection.close()
  }, 120_000)

  it('admit exactly their limit, over four connections and duplicates in one call', async () => {
    const record = recordOf({ capacity: 5_000, rate: 0, intervalMs: 0 })
    let admitted = 0
    let denied = 0
    const callsBefore = nodes.reduce((sum, node) => sum + node.figure('calls'), 0)
    const runner = async (index: number) => {
      for (let round = 0; round < 20; round++) {
        const results = await Promise.all(Array.from({ length: 25 }, () => nodeAt(index).take(record)))
        for (const { kind } of results) kind === 'taken' ? admitted++ : denied++
      }
    }
    await Promise.all(Array.from({ length: 16 }, (_, index) => runner(index)))
    expect({ admitted, denied }).toEqual({ admitted: 5_000, denied: 3_000 })
    const calls = nodes.reduce((sum, node) => sum + node.figure('calls'), 0) - callsBefore
    expect(calls).toBeLessThan(8_000 / 10)
  })

  it('take costs as a whole, for checks of different costs in one call', async () => {
    const record = recordOf({ capacity: 10, rate: 0, intervalMs: 0 })
    const costs = [4, 4, 4, 1, 3, 1, 0]
    const results = await Promise.all(costs.map((cost) => nodeAt(0).take(record, cost)))
    const spent = results.reduce(
      (sum, { kind }, index) => sum + (kind === 'taken' ? (costs[index] ?? 0) : 0),
      0,
    )
    expect(spent).toBe(10)
    expect(results.at(-1)?.kind).toBe('taken')
  })

  it.each([
    ['steady, at 90 % of the refill', steady(15)],
    ['at ten times the refill', steady(167)],
    ['in bursts with pauses', burst],
  ])(
    'admit in no window more than the limit and its refills, leases on and off: %s',
    async (name, turn) => {
      for (const mayLease of [true, false]) {
        const record = recordOf({ capacity: 100, rate: 50, intervalMs: 60 }, { mayLease })
        const before = sumFigures()
        const admissions: Admission[] = []
        let [asked, refused] = [0, 0]
        const takeOne = async (index: number) => {
          const sentAt = performance.timeOrigin + performance.now()
          const { kind } = await nodeAt(index).take(record)
          asked++
          if (kind === 'taken')
            admissions.push({ sentAt, receivedAt: performance.timeOrigin + performance.now() })
          else refused++
        }
        const end = performance.now() + PATTERN_MS
        while (performance.now() < end) await turn(takeOne)
        const after = sumFigures()
        const [leased, calls] = [after.leased - before.leased, after.calls - before.calls]
        const bucket = { limit: 100, rate: 50, intervalMs: 60, anchorMs: record.createdAtMs }
        expect(admissions.length).toBeGreaterThan(500)
        expect(worstExcess(admissions, bucket)).toBeLessThanOrEqual(0)
        if (!mayLease) expect(leased).toBe(0)
        else if (name !== 'at ten times the refill') expect(leased).toBeGreaterThan(0)
        process.stderr.write(
          `${name}, leases ${mayLease}: ${asked} asked, ${refused} refused, ${leased} leased, ${(calls / asked).toFixed(3)} calls a check\n`,
        )
      }
    },
    30_000 + 3 * PATTERN_MS,
  )

  it('hold over nodes whose clocks are five seconds apart on either side, and answer by the clock of Redis', async () => {
    const shifted = await Promise.all(
      [-5_000, 5_000].map((skewMs) =>
        openTestNode({ url: server.url, prefix }, { monotonicMs: () => performance.now() + skewMs }),
      ),
    )
    const record = recordOf({ capacity: 100, rate: 50, intervalMs: 60 }, { mayLease: true })
    const admissions: Admission[] = []
    const takeOne = async (index: number) => {
      const sentAt = performance.timeOrigin + performance.now()
      const skewMs = index % 2 === 0 ? -5_000 : 5_000
      const wallMs = Date.now() + skewMs
      const result = await shifted[index % 2]?.checker.buckets.take(record, 1, wallMs, wallMs)
      const receivedAt = performance.timeOrigin + performance.now()
      if (result?.kind === 'taken') admissions.push({ sentAt, receivedAt })
      expect(Math.abs((result?.nowMs ?? 0) - receivedAt)).toBeLessThan(2_500)
    }
    const end = performance.now() + 2_000
    while (performance.now() < end) await burst(takeOne)
    const bucket = { limit: 100, rate: 50, intervalMs: 60, anchorMs: record.createdAtMs }
    expect(admissions.length).toBeGreaterThan(200)
    expect(worstExcess(admissions, bucket)).toBeLessThanOrEqual(0)
    await Promise.all(shifted.map((node) => node.close()))
  }, 30_000)

  it('are understood as earlier versions wrote them, and left alone where a later version did', async () => {
    const connection = openConnection({ url: server.url }, 'versions')
    await connection.ready(5_000)
    const read = async (text: string) => {
      const key = `${prefix}{b0}:version`
      await server.admin.set(key, text)
      const { got, remaining, lastMs } = await runStep(connection, key, START + 2_500, '100 10 1000 7', {
        want: 1,
      })
      return { got, remaining, refilledAfterMs: lastMs - START, text: await server.admin.get(key) }
    }
    // With what is written: part of the layout, for the versions that run beside this one.
    expect(await read(`1 40 ${START} 100 10 1000 7`)).toEqual({
      got: 1,
      remaining: 59,
      refilledAfterMs: 2_000,
      text: `1 59 ${START + 2_000} 100 10 1000 7`,
    })
    expect(await read(`2 40 ${START + 2_000} 5 8 100 10 1000 7`)).toEqual({
      got: 1,
      remaining: 39,
      refilledAfterMs: 2_000,
      text: `2 39 ${START + 2_000} 5 8 100 10 1000 7`,
    })
    for (const [text, got] of [
      ['3 40 something of a later version', NO_BUCKET],
      [`1 40 ${START} 100 10 1000 8`, STALE],
      ['1 ended', STALE],
    ] as const) {
      expect(await read(text)).toMatchObject({ got, text })
    }
    connection.close()
  })

  it('take nothing home into room that a refill has filled', async () => {
    const at = { now: START }
    const connection = openConnection({ url: server.url }, 'model')
    await connection.ready(5_000)
    const key = `${prefix}{b0}:room`
    const run = async (asked: Partial<BucketStep>) =>
      (await runStep(connection, key, at.now, '100 40 1000 0', asked)).got
    // 10 are taken and 30 go out on lease; the refill makes 100 of the other 60.
    expect(await run({ want: 10, lend: 30 })).toBe(40)
    at.now += 1_000
    expect(await run({ want: 100 })).toBe(100)
    // The lease comes home unused. One bucket has been spent since the refill: not one more.
    expect(await run({ want: 100, back: 30, under: START })).toBe(0)
    connection.close()
  })

  it('take back what a lease did not use, once, and not after the next but one refill', async () => {
    const connection = openConnection({ url: server.url }, 'model')
    await connection.ready(5_000)
    const key = `${prefix}{b0}:back`
    const run = async (now: number, asked: Partial<BucketStep>) =>
      (await runStep(connection, key, now, '1000 10 1000 0', asked)).remaining
    expect(await run(START, { want: 500, lend: 64 })).toBe(436)
    expect(await run(START, { back: 24, under: START })).toBe(460)
    expect(await run(START + 1_000, { back: 20, under: START })).toBe(490)
    // 20 of the lease are still unaccounted for; no more than those may come.
    expect(await run(START + 1_000, { back: 64, under: START })).toBe(510)
    expect(await run(START + 2_000, { want: 1, lend: 64 })).toBe(455)
    expect(await run(START + 4_000, { back: 64, under: START + 2_000 })).toBe(475)
    connection.close()
  })

  it('vanish when they are full, and not before', async () => {
    const node = nodeAt(0)
    const quick = recordOf({ capacity: 10, rate: 10, intervalMs: 100 })
    const slow = recordOf({ capacity: 10, rate: 1, intervalMs: 60_000 })
    const lifetime = recordOf({ capacity: 10, rate: 0, intervalMs: 0 })
    for (const record of [quick, slow, lifetime]) await node.take(record)
    const keyOf = (record: RedisRecord) => node.checker.layout.bucket(record.shard, record.kid)
    await until(async () => (await server.admin.exists(keyOf(quick))) === 0, 2_000)
    expect(await server.admin.pttl(keyOf(slow))).toBeGreaterThan(0)
    expect(await server.admin.pttl(keyOf(lifetime))).toBe(-1)
  })

  it('that are empty are denied from memory until the next refill, and not longer', async () => {
    const record = recordOf({ capacity: 3, rate: 3, intervalMs: 200 })
    const node = nodeAt(0)
    await Promise.all([1, 2, 3, 4].map(() => node.take(record)))
    const calls = node.figure('calls')
    const denied = await node.take(record)
    expect(denied).toMatchObject({ kind: 'denied', remaining: 0 })
    if (node.figure('calls') === calls) expect(node.figure('blocked')).toBeGreaterThan(0)
    const refillAt = denied.lastRefilledMs + 200
    let admittedAt = 0
    await until(async () => {
      const { kind } = await node.take(record)
      admittedAt = Date.now()
      return kind === 'taken'
    }, 1_000)
    expect(admittedAt).toBeGreaterThanOrEqual(refillAt - 1)
    expect(admittedAt).toBeLessThan(refillAt + 60)
  })

  it('of a key whose limit has changed refuse records of the old one, and convert', async () => {
    const before = recordOf({ capacity: 10, rate: 0, intervalMs: 0 }, { at: 1_000 })
    const after = recordOf({ capacity: 20, rate: 0, intervalMs: 0 }, { at: 2_000, kid: before.kid })
    expect(await nodeAt(0).take(before, 4)).toMatchObject({ kind: 'taken', remaining: 6 })
    expect(await nodeAt(1).take(after)).toMatchObject({ kind: 'taken', remaining: 15 })
    expect((await nodeAt(0).take(before)).kind).toBe('stale')
    expect(await nodeAt(0).take({ ...before, isConfirmed: true })).toMatchObject({
      kind: 'taken',
      remaining: 4,
    })
  })

  it('work on a server that has lost its scripts', async () => {
    const record = recordOf({ capacity: 10, rate: 0, intervalMs: 0 })
    await nodeAt(0).take(record)
    await server.admin.script('FLUSH')
    expect(await nodeAt(0).take(record)).toMatchObject({ kind: 'taken', remaining: 8 })
  })

  it('are not touched by a call that arrives too late', async () => {
    const record = recordOf({ capacity: 10, rate: 0, intervalMs: 0 })
    await using node = await openTestNode({ url: server.url, prefix, timeout: 25 })
    await node.take(record)
    server.signal('SIGSTOP')
    await expect(Promise.all([1, 2, 3].map(() => node.take(record)))).rejects.toMatchObject({
      name: 'StoreUnavailable',
    })
    await new Promise((resolve) => setTimeout(resolve, 60))
    server.signal('SIGCONT')
    await until(async () => (await node.take(record, 0).catch(() => undefined))?.kind === 'taken')
    expect(await node.take(record, 0)).toMatchObject({ remaining: 9 })
  })
})

/** One step on one bucket at a given instant. */
async function runStep(
  connection: Connection,
  key: string,
  nowMs: number,
  limitText: string,
  asked: Partial<BucketStep>,
): Promise<BucketStep> {
  const step = { ...createStep({ key, anchorMs: START, limitText }), ...asked }
  const call = { timeoutMs: 5_000, overrideMs: nowMs, notAfterMs: 0, lessees: 1, isDistinct: true }
  await runSteps(connection, [step], call)
  return step
}

type TakeOne = (node: number) => Promise<void>

/** So many checks every 20 ms, over all nodes, six of them at a time on one. */
function steady(perTurn: number): (takeOne: TakeOne) => Promise<void> {
  return async (takeOne) => {
    const first = Math.floor(Math.random() * 4)
    const turn = Promise.all(
      Array.from({ length: perTurn }, (_, index) => takeOne(first + Math.floor(index / 6))),
    )
    await Promise.all([turn, pause(20)])
  }
}

/** Some checks on each node, which lease; then, refills later or not, more than there can be, everywhere. */
async function burst(takeOne: TakeOne): Promise<void> {
  for (let node = 0; node < 4; node++) await Promise.all(Array.from({ length: 5 }, () => takeOne(node)))
  await pause(100 * Math.random())
  for (let round = 0; round < 4; round++) {
    await Promise.all(Array.from({ length: 60 }, (_, index) => takeOne(index)))
    await pause(10 * Math.random())
  }
  await pause(150 * Math.random())
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
