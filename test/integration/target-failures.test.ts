import { describe, expect, it } from 'vitest'
import { type FickleTarget, type Mood, startFickleTarget } from '../support/fickle-target.ts'
import { useProxy } from '../support/proxy-bench.ts'
import { startGatewayWith, type TestGateway } from '../support/proxy-gateway.ts'
import { type RawAnswer, requestOnce } from '../support/raw-client.ts'
import { findClosedPort } from '../support/upstreams.ts'

/** What requests meet, and do not meet, while targets fail. */

/** Neither takes part, so that a test sees what it is about. */
const NO_EJECTION = { ejection: { failures: 0 } }
const NO_CIRCUIT = { circuit: { failures: 0 } }
const QUICK = { timeouts: { connect: 1000, response: 300 } }

let lastId = 0

function request(gateway: TestGateway, method = 'GET'): Promise<RawAnswer> {
  const length = method === 'GET' ? [] : ['Content-Length: 0']
  return requestOnce(gateway.port, [`${method} / HTTP/1.1`, 'Host: a', `X-Id: ${++lastId}`, ...length])
}

async function requestMany(gateway: TestGateway, count: number, method = 'GET'): Promise<number[]> {
  const statuses: number[] = []
  for (let i = 0; i < count; i++) statuses.push((await request(gateway, method)).status)
  return statuses
}

const listUrls = (targets: readonly FickleTarget[]) => targets.map(({ url }) => url)
const countRequests = (targets: readonly FickleTarget[]) => targets.flatMap(({ ids }) => ids).length
const errorCode = (answer: RawAnswer) => JSON.parse(String(answer.body)).error.code

describe.each(['node', 'raw'] as const)('%s engine: while targets fail', (engine) => {
  const bench = useProxy({ startGateway: startGatewayWith({ front: engine, upstream: engine }) })

  function startTargets(...moods: Mood[]): Promise<FickleTarget[]> {
    return Promise.all(moods.map((mood, i) => bench.upstream(startFickleTarget(`t${i}`, mood))))
  }

  function startGateway(targets: readonly FickleTarget[], settings: object = {}): Promise<TestGateway> {
    return bench.gateway({ upstreams: { main: { targets: listUrls(targets), ...settings } } })
  }

  it.each(['reset', 'hang', 'garbage', 'half-a-head'] as const)(
    'sends a GET that met %s to another target, and never a POST',
    async (mood) => {
      const targets = await startTargets(mood, 'fine', 'fine')
      const settings = { ...QUICK, ...NO_EJECTION, ...NO_CIRCUIT }
      const gateway = await startGateway(targets, settings)
      expect(await requestMany(gateway, 6)).toEqual([200, 200, 200, 200, 200, 200])
      expect(targets[0]?.ids.length).toBeGreaterThan(1)
      const before = countRequests(targets)
      for (const method of ['POST', 'PUT', 'DELETE']) {
        const statuses = await requestMany(gateway, 3, method)
        expect(statuses.filter((status) => status === 200)).toHaveLength(2)
        expect(statuses).toContain(mood === 'hang' ? 504 : 502)
      }
      expect(countRequests(targets)).toBe(before + 9)
      const ids = targets.flatMap((target) => target.ids.slice())
      expect(new Set(ids).size).toBe(15)
    },
  )

  it('sends nothing again of which something was passed on, and no answer of the upstream is a reason to', async () => {
    const targets = await startTargets('informs', 'fine')
    const gateway = await startGateway(targets)
    const client = bench.client(gateway)
    client.send('GET / HTTP/1.1', 'Host: a')
    expect([(await client.readAnswer()).status, (await client.readAnswer()).status]).toEqual([103, 502])
    expect(targets[1]?.ids).toEqual([])
    for (const status of [429, 500, 502, 503, 504]) {
      for (const target of targets) target.mood = status
      const before = countRequests(targets)
      expect((await request(gateway)).status).toBe(status)
      expect(countRequests(targets)).toBe(before + 1)
    }
  })

  it('sends a request again at most as often as it is told', async () => {
    for (const [max, times] of [
      [0, 1],
      [1, 2],
      [2, 3],
    ] as const) {
      const targets = await startTargets('reset', 'reset', 'reset', 'reset')
      const gateway = await startGateway(targets, { ...NO_EJECTION, retries: { max } })
      expect((await request(gateway)).status).toBe(502)
      expect(countRequests(targets)).toBe(times)
    }
  })

  it('does not multiply the traffic of a total outage beyond the budget', async () => {
    const targets = await startTargets('reset', 'reset', 'reset')
    const gateway = await startGateway(targets, { ...NO_EJECTION, ...NO_CIRCUIT })
    const statuses = await requestMany(gateway, 100)
    expect(new Set(statuses)).toEqual(new Set([502]))
    expect(countRequests(targets)).toBeGreaterThan(120)
    // 20 percent and 10; as many again should the test take longer than the window.
    expect(countRequests(targets)).toBeLessThanOrEqual(140)
  })

  it('leaves out a target that fails five times in a row, and lets it back by one request', async () => {
    const targets = await startTargets('garbage', 'fine', 'fine')
    const [bad] = targets
    if (bad === undefined) return
    const gateway = await startGateway(targets, { ejection: { backoff: 700 } })
    expect(new Set(await requestMany(gateway, 30))).toEqual(new Set([200]))
    expect(bad.ids).toHaveLength(5)
    await new Promise((resolve) => setTimeout(resolve, 750))
    // Still bad: one trial, and out again for twice as long.
    expect(new Set(await requestMany(gateway, 10))).toEqual(new Set([200]))
    expect(bad.ids).toHaveLength(6)
    bad.mood = 'fine'
    await new Promise((resolve) => setTimeout(resolve, 1450))
    const names = []
    for (let i = 0; i < 6; i++) names.push(String((await request(gateway)).body))
    expect(names.filter((name) => name === 't0').length).toBeGreaterThanOrEqual(2)
  })

  it('counts answers of 500 and more as failures only where it is told to', async () => {
    for (const [count_5xx, seen] of [
      [true, 5],
      [false, 20],
    ] as const) {
      const targets = await startTargets(500, 'fine')
      const gateway = await startGateway(targets, { ejection: { count_5xx } })
      await requestMany(gateway, 40)
      expect(targets[0]?.ids).toHaveLength(seen)
    }
  })

  it('never ejects the last target, nor more than the share', async () => {
    const alone = await startTargets('garbage')
    const gateway = await startGateway(alone)
    expect(new Set(await requestMany(gateway, 20))).toEqual(new Set([502]))
    expect(countRequests(alone)).toBe(20)

    const four = await startTargets('garbage', 'garbage', 'garbage', 'garbage')
    const second = await startGateway(four, { ...NO_CIRCUIT, retries: { max: 0 } })
    expect(new Set(await requestMany(second, 60))).toEqual(new Set([502]))
    const counts = four.map(({ ids }) => ids.length)
    expect(counts.filter((count) => count === 5)).toHaveLength(2)
    expect(counts.reduce((sum, count) => sum + count)).toBe(60)
  })

  it('takes an ejected target back in its time, however often it was asked for want of others', async () => {
    const targets = await startTargets('reset', 'reset')
    const ejection = { failures: 2, backoff: 700 }
    const gateway = await startGateway(targets, { ejection, ...NO_CIRCUIT })
    expect(new Set(await requestMany(gateway, 10))).toEqual(new Set([502]))
    for (const target of targets) target.mood = 'fine'
    await new Promise((resolve) => setTimeout(resolve, 750))
    const before = targets.map(({ ids }) => ids.length)
    expect(new Set(await requestMany(gateway, 10))).toEqual(new Set([200]))
    expect(targets.map(({ ids }, i) => ids.length - (before[i] ?? 0))).toEqual([5, 5])
  })

  it('takes a POST on to the next target as long as nothing of it was sent', async () => {
    const closed = [await findClosedPort(), await findClosedPort()]
    const [target] = await startTargets('fine')
    const targets = [...closed.map((port) => `http://127.0.0.1:${port}`), target?.url]
    const gateway = await bench.gateway({ upstreams: { main: { targets } } })
    expect(new Set(await requestMany(gateway, 30, 'POST'))).toEqual(new Set([200]))
    expect(new Set(target?.ids).size).toBe(30)
  })

  it('opens the circuit of an upstream that fails as a whole, and closes it again', async () => {
    const targets = await startTargets('reset', 'reset')
    const circuit = { failures: 10, percent: 80, open_for: 600 }
    const gateway = await startGateway(targets, { circuit, retries: { max: 0 } })
    expect(new Set(await requestMany(gateway, 10))).toEqual(new Set([502]))
    const refused = await request(gateway)
    expect([refused.status, errorCode(refused), refused.headers.get('retry-after')]).toEqual([
      503,
      'no_upstream',
      '1',
    ])
    await requestMany(gateway, 5)
    expect(countRequests(targets)).toBe(10)
    await new Promise((resolve) => setTimeout(resolve, 650))
    // One request goes through as a probe, and fails.
    expect(await requestMany(gateway, 3)).toEqual([502, 503, 503])
    for (const target of targets) target.mood = 'fine'
    await new Promise((resolve) => setTimeout(resolve, 650))
    expect(new Set(await requestMany(gateway, 10))).toEqual(new Set([200]))
  })

  it('keeps the circuit closed while most requests succeed', async () => {
    const targets = await startTargets('fine', 'reset')
    const circuit = { failures: 5, percent: 75 }
    const gateway = await startGateway(targets, { circuit, ...NO_EJECTION, retries: { max: 0 } })
    const statuses = await requestMany(gateway, 40)
    expect(statuses.filter((status) => status === 502)).toHaveLength(20)
    expect(statuses).not.toContain(503)
  })

  it('does not hold a fault of the request against the target', async () => {
    const targets = await startTargets('fine', 'fine')
    const gateway = await startGateway(targets, { ejection: { failures: 1 } })
    for (let i = 0; i < 6; i++) {
      const client = bench.client(gateway)
      client.send('POST / HTTP/1.1', 'Host: a', 'Transfer-Encoding: chunked')
      client.write('zz\r\n')
      await client.closed()
    }
    const before = targets.map(({ ids }) => ids.length)
    await requestMany(gateway, 6)
    expect(targets.map(({ ids }, i) => ids.length - (before[i] ?? 0))).toEqual([3, 3])
  })
})
