import { describe, expect, it } from 'vitest'
import { configSchema } from '../../src/config/schema.ts'
import { createHealthMemory, HealthCell } from '../../src/data-plane/health-cell.ts'
import { pickTarget, toRetryAfterSeconds } from '../../src/data-plane/pick-target.ts'
import { createTargetDirectory } from '../../src/data-plane/target-directory.ts'
import { Traffic, WINDOW_MS } from '../../src/data-plane/traffic.ts'
import { createUpstreams, type Upstream } from '../../src/data-plane/upstream-pool.ts'
import { FakeClock } from '../support/fakes.ts'

const BACKOFF = { ms: 1000, msMax: 5000 }
const T = 1_700_000_000_000

/** The same cell, as two threads see it. */
function openCell(): [HealthCell, HealthCell] {
  const memory = createHealthMemory()
  return [new HealthCell(memory, 3), new HealthCell(memory, 3)]
}

function openUpstream(count: number, settings: object = {}): Upstream {
  const targets = Array.from({ length: count }, (_, i) => `http://127.0.0.${i + 1}:9000`)
  const config = configSchema.parse({ upstreams: { main: { targets, ...settings } } })
  const seed = createTargetDirectory().list(config, (hostname) => [hostname])
  const upstream = createUpstreams(config, 'raw', seed).find('main')
  if (upstream === undefined) throw new Error('no upstream')
  return upstream
}

describe('the health of a target', () => {
  it('is the same for all threads, and each trial is given to one of them', () => {
    const [one, two] = openCell()
    expect([one.isUp, two.isUp]).toEqual([true, true])
    expect(one.eject(T, BACKOFF, true)).toBe(1000)
    expect([two.isUp, two.isOut, two.outMs(T + 400)]).toEqual([false, true, 600])
    expect(two.eject(T, BACKOFF, true)).toBe(0)
    expect([one.mayTry(T + 999), two.mayTry(T + 1000), one.mayTry(T + 1000)]).toEqual([false, true, false])
    expect(one.succeed()).toBe(true)
    expect(two.isUp).toBe(true)
  })

  it('stays out twice as long each time in a row, up to the longest time, and starts anew after a good time', () => {
    const [cell] = openCell()
    let now = T
    for (const ms of [1000, 2000, 4000, 5000, 5000]) {
      expect(cell.eject(now, BACKOFF, false)).toBe(ms)
      now += ms
      expect(cell.mayTry(now)).toBe(true)
    }
    cell.succeed()
    // Back, but not for as long as it was out.
    expect(cell.eject(now + 100, BACKOFF, false)).toBe(5000)
    expect(cell.mayTry(now + 5100)).toBe(true)
    cell.succeed()
    expect(cell.eject(now + 20_000, BACKOFF, false)).toBe(1000)
  })

  it('does not come back by old news, only by a trial', () => {
    const [cell] = openCell()
    cell.eject(T, BACKOFF, false)
    expect(cell.succeed()).toBe(false)
    expect(cell.isUp).toBe(false)
  })

  it('is tried again when the outcome of a trial never comes', () => {
    const [cell] = openCell()
    cell.eject(T, BACKOFF, false)
    expect(cell.mayTry(T + 1000)).toBe(true)
    expect(cell.mayTry(T + 5999)).toBe(false)
    expect(cell.mayTry(T + 6000)).toBe(true)
  })

  it('stays out no longer because it was tried before its time', () => {
    const [cell] = openCell()
    expect(cell.eject(T, BACKOFF, true)).toBe(1000)
    for (let now = T + 1; now < T + 1000; now += 100) {
      expect(cell.mayTry(now, true)).toBe(true)
      expect([cell.eject(now, BACKOFF, true), cell.isOut, cell.isOnTrial]).toEqual([0, true, false])
    }
    expect(cell.figures.ejections).toBe(1)
    expect([cell.outMs(T + 999), cell.mayTry(T + 999), cell.mayTry(T + 1000)]).toEqual([1, false, true])
    expect(cell.eject(T + 1000, BACKOFF, true)).toBe(2000)
  })

  it('is not tried while the checks say that it is down', () => {
    const [cell] = openCell()
    cell.eject(T, BACKOFF, false)
    expect([cell.setDown(true), cell.setDown(true)]).toEqual([true, false])
    expect(cell.mayTry(T + 9000)).toBe(false)
    expect([cell.setDown(false), cell.isUp, cell.mayTry(T + 9000)]).toEqual([true, false, true])
  })
})

describe('picking a target', () => {
  const clock = new FakeClock(T)
  const none: never[] = []
  const draw = (upstream: Upstream, count: number) =>
    Array.from({ length: count }, () => pickTarget(upstream, none, clock)?.position ?? '-').join('')

  it('in turns shares the load of one that is out among all others', () => {
    const upstream = openUpstream(3)
    expect(draw(upstream, 6)).toBe('012012')
    upstream.targets[0]?.health.eject(T, { ms: 60_000, msMax: 60_000 }, true)
    expect(draw(upstream, 6)).toBe('121212')
  })

  it('gives exactly one request to a target whose time is over', () => {
    const upstream = openUpstream(3)
    upstream.targets[1]?.health.eject(T - 1000, BACKOFF, true)
    expect(draw(upstream, 6)).toBe('012020')
  })

  it('finds nothing where all are down, and what is only ejected where the others are down', () => {
    const upstream = openUpstream(2)
    upstream.targets[0]?.health.setDown(true)
    upstream.targets[1]?.health.eject(T, { ms: 60_000, msMax: 60_000 }, true)
    expect(toRetryAfterSeconds(upstream, T + 1)).toBe('60')
    expect(draw(upstream, 3)).toBe('1--')
    upstream.targets[1]?.health.setDown(true)
    expect(draw(upstream, 2)).toBe('--')
  })

  it.each(['round_robin', 'least_requests'])(
    'by %s passes over those without a free connection',
    (balance) => {
      const upstream = openUpstream(2, { balance, max_connections: 2 })
      const [first] = upstream.targets
      if (first !== undefined) first.inFlight = 2
      expect(draw(upstream, 4)).toBe('1111')
    },
  )

  it('by least_requests keeps the load even, also where one is out', () => {
    const upstream = openUpstream(8, { balance: 'least_requests' })
    upstream.targets[5]?.health.eject(T, { ms: 60_000, msMax: 60_000 }, true)
    for (let i = 0; i < 700; i++) {
      const picked = pickTarget(upstream, none, clock)
      if (picked !== undefined) picked.inFlight++
    }
    const loads = upstream.targets.map(({ inFlight }) => inFlight)
    expect(loads[5]).toBe(0)
    const others = loads.filter((_, i) => i !== 5)
    expect(Math.max(...others) - Math.min(...others)).toBeLessThan(20)
  })
})

describe('the cells of targets', () => {
  const parse = (targets: string[]) => configSchema.parse({ upstreams: { main: { targets } } })
  const [a, b, c] = ['http://a.test', 'http://b.test', 'http://c.test'] as const

  it('stay with upstream, origin and address, whatever their order, and are given on clean', () => {
    const directory = createTargetDirectory()
    const book = () => ['10.0.0.1', '10.0.0.2']
    const slotOf = (seed: ReturnType<typeof directory.list>, url: string, address: string) =>
      seed.upstreams.get('main')?.endpoints.find((each) => each.url === url && each.address === address)
        ?.slot ?? -1
    const before = directory.list(parse([a, b]), book)
    new HealthCell(before.memory, slotOf(before, a, '10.0.0.2')).setDown(true)
    const after = directory.list(parse([c, b, a]), book)
    expect(slotOf(after, a, '10.0.0.2')).toBe(slotOf(before, a, '10.0.0.2'))
    expect(new HealthCell(after.memory, slotOf(after, a, '10.0.0.2')).isDown).toBe(true)
    directory.keep([directory.list(parse([b]), book)])
    const again = directory.list(parse([a]), book)
    expect(new HealthCell(again.memory, slotOf(again, a, '10.0.0.2')).isUp).toBe(true)
  })

  it('never run out by change alone', () => {
    const directory = createTargetDirectory()
    for (let i = 0; i < 20_000; i++) {
      directory.keep([directory.list(parse([a]), () => [`10.0.${i >> 8}.${i & 255}`])])
    }
  })
})

describe('the retry budget', () => {
  const RULE = { max: 2, percent: 20, min: 10 }
  const takeAll = (traffic: Traffic, nowMs: number) => {
    let taken = 0
    while (taken < 10_000 && traffic.takeRetry(RULE, nowMs)) taken++
    return taken
  }

  it('is a share of the requests of the last windows and a small minimum', () => {
    const traffic = new Traffic()
    for (let i = 0; i < 100; i++) traffic.countRequest(T)
    expect(takeAll(traffic, T)).toBe(30)
    for (let i = 0; i < 50; i++) traffic.countRequest(T + WINDOW_MS)
    expect(takeAll(traffic, T + WINDOW_MS)).toBe(10)
    expect(takeAll(traffic, T + 2 * WINDOW_MS)).toBe(10)
  })

  it('does not grow while nothing happens', () => {
    const traffic = new Traffic()
    for (let i = 0; i < 1000; i++) traffic.countRequest(T)
    expect(takeAll(traffic, T + 10 * WINDOW_MS)).toBe(10)
  })
})
