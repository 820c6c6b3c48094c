import { afterEach, expect, test } from 'vitest'
import { createPurgeMemory, PurgeCounters } from '../../src/ports/purge-counters.ts'
import { joinPurgeFleet } from '../../src/stores/redis/purge-fleet.ts'
import { createFakeLogger } from '../support/fakes.ts'
import { type RunningGateway, startGateway } from '../support/gateway.ts'
import { ask } from '../support/http-client.ts'
import { describeRedis, type RedisServer, startRedis } from '../support/redis.ts'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'
import { type HttpUpstream, startHttpUpstream } from '../support/upstreams.ts'

const RESOURCES = 4
/** Longer histories: CACHE_HISTORY_SECONDS=300. */
const HISTORY_MS = Number(process.env['CACHE_HISTORY_SECONDS'] ?? 25) * 1000
const SEED = Number(process.env['CACHE_HISTORY_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

interface Node {
  /** Between it and Redis. */
  readonly proxy: TcpProxy
  gateway: RunningGateway
}

describeRedis('response cache over nodes', () => {
  const undos: (() => PromiseLike<unknown>)[] = []
  afterEach(async () => {
    for (const undo of undos.splice(0).reverse()) await undo()
  })

  /** Answers with the version of each resource, which tests raise. */
  async function startOrigin(): Promise<{
    upstream: HttpUpstream
    versions: number[]
    delayMs: () => number
  }> {
    const versions = Array<number>(RESOURCES).fill(1)
    const delays = { delayMs: () => 0 }
    const upstream = await startHttpUpstream((request, answer) => {
      const resource = Number(request.url?.split('/')[2])
      const version = versions[resource]
      const send = () =>
        answer
          .writeHead(200, {
            'Cache-Control': 'max-age=600',
            'Cache-Tag': `r${resource}`,
            ETag: `"${version}"`,
          })
          .end(String(version))
      // The answer is old by the time that it arrives.
      setTimeout(send, delays.delayMs())
    })
    undos.push(() => upstream.close())
    return Object.assign(delays, { upstream, versions })
  }

  function start(upstream: HttpUpstream, proxy: TcpProxy): Promise<RunningGateway> {
    return startGateway({
      config: {
        gateway: { workers: 2 },
        admin: { script: { limit: 100_000 } },
        store: { redis: { url: `redis://127.0.0.1:${proxy.port}`, timeout: '2s' } },
        upstreams: { main: { targets: [upstream.url] } },
        routes: [{ name: 'main', upstream: 'main', cache: {} }],
      },
    })
  }

  async function startNodes(
    count: number,
    upstream: HttpUpstream,
  ): Promise<{ redis: RedisServer; nodes: Node[]; token: string }> {
    const redis = await startRedis()
    undos.push(() => redis.close())
    const nodes: Node[] = []
    for (let at = 0; at < count; at++) {
      const proxy = await startTcpProxy(redis.port)
      undos.push(() => proxy.close())
      nodes.push({ proxy, gateway: await start(upstream, proxy) })
    }
    undos.push(() => Promise.all(nodes.map(({ gateway }) => gateway.kill())))
    const created = await nodes[0]?.gateway.rpc('serviceKeys.create', {
      description: 'purges',
      roles: ['SCRIPT'],
    })
    return { redis, nodes, token: String((created?.body as { token: string } | undefined)?.token) }
  }

  async function purge(
    node: Node,
    token: string,
    key: string,
  ): Promise<{ status: number; body: Record<string, unknown> }> {
    const answer = await fetch(`${node.gateway.adminUrl}/script/invalidate-cache`, {
      method: 'POST',
      headers: { 'x-api-key': token, 'content-type': 'application/json' },
      body: JSON.stringify({ key }),
    })
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> }
  }

  const get = (node: Node, resource: number) =>
    ask(Number(new URL(node.gateway.gatewayUrl).port), `/r/${resource}`, { headers: { host: 'api.example' } })

  test('nodes share answers; a purge by one reaches all, and a partitioned one gives nothing from its cache', {
    timeout: 120_000,
  }, async () => {
    const { upstream, versions } = await startOrigin()
    const { nodes, token } = await startNodes(3, upstream)
    const [one, two, three] = nodes as [Node, Node, Node]
    const bodies = async () => await Promise.all(nodes.map(async (node) => (await get(node, 0)).body))

    expect((await get(one, 0)).body).toBe('1')
    await expect
      .poll(async () => (await get(two, 0)).headers['cache-status'], { timeout: 10_000 })
      .toContain('dripgate; ')
    expect(await bodies()).toEqual(['1', '1', '1'])
    const before = upstream.seen.length
    expect(before).toBeLessThanOrEqual(3)

    versions[0] = 2
    const startedMs = performance.now()
    expect(await purge(two, token, 'tag:r0')).toMatchObject({ status: 200 })
    // Well below the lease: the nodes have answered.
    expect(performance.now() - startedMs).toBeLessThan(4_000)
    expect(await bodies()).toEqual(['2', '2', '2'])

    three.proxy.hold()
    versions[0] = 3
    const heldMs = performance.now()
    expect(await purge(one, token, 'tag:r0')).toMatchObject({ status: 200 })
    expect(performance.now() - heldMs).toBeGreaterThan(2_000)
    expect(await bodies()).toEqual(['3', '3', '3'])
    expect((await get(three, 0)).headers['cache-status']).toBe('dripgate; fwd=bypass')
    three.proxy.release()
    await expect
      .poll(async () => (await get(three, 0)).headers['cache-status'], { timeout: 15_000 })
      .toMatch(/dripgate; hit/)
    expect(await bodies()).toEqual(['3', '3', '3'])
  })

  test('a purge that Redis cannot hear of is pending, and the others hear of it later', {
    timeout: 60_000,
  }, async () => {
    const redis = await startRedis()
    undos.push(() => redis.close())
    const proxy = await startTcpProxy(redis.port)
    undos.push(() => proxy.close())
    const join = (port: number) => {
      const counters = new PurgeCounters(createPurgeMemory())
      const fleet = joinPurgeFleet({
        settings: { url: `redis://127.0.0.1:${port}`, prefix: 'dripgate:', timeout: 100 },
        counters,
        nowMs: () => performance.now(),
        forgetRecords: () => Promise.resolve(true),
        logger: createFakeLogger(),
      })
      undos.push(() => fleet.close())
      return { fleet, counters }
    }
    const [one, two] = [join(proxy.port), join(redis.port)]
    const [mark, other] = [7, 8]
    for (const { counters } of [one, two]) await expect.poll(() => counters.leaseEndMs).toBeGreaterThan(0)
    expect(await one.fleet.purge([mark])).toEqual({ kind: 'done', acknowledged: 2 })

    proxy.hold()
    const since = two.counters.sequence()
    const outcome = await one.fleet.purge([mark])
    expect(outcome).toMatchObject({ kind: 'pending', acknowledged: 1 })
    // By now it has lost its lease, and its own counter was raised at once.
    expect(one.counters.leaseEndMs).toBeLessThan(performance.now())
    expect(two.counters.isUntouched([mark], since)).toBe(true)
    expect(two.counters.leaseEndMs).toBeGreaterThan(performance.now())
    proxy.release()
    await expect.poll(() => two.counters.isUntouched([mark], since), { timeout: 10_000 }).toBe(false)
    expect(two.counters.isUntouched([other], since)).toBe(true)
    await expect.poll(() => one.counters.leaseEndMs, { timeout: 10_000 }).toBeGreaterThan(performance.now())

    // What Redis loses is taken for purged.
    await redis.admin.flushall()
    await expect.poll(() => one.counters.isUntouched([other], since), { timeout: 10_000 }).toBe(false)
    await expect.poll(() => two.counters.isUntouched([other], since), { timeout: 10_000 }).toBe(false)
  })

  test(`after a 200 to a purge nobody is served an older answer (seed ${SEED})`, {
    timeout: HISTORY_MS + 120_000,
  }, async () => {
    const random = createRandom(SEED)
    const origin = await startOrigin()
    const { upstream, versions } = origin
    origin.delayMs = () => (random() < 0.2 ? random() * 300 : 0)
    const { nodes, token } = await startNodes(3, upstream)
    /** No answer to a request from now on may be older. */
    const floors = Array<number>(RESOURCES).fill(1)
    const counts = { hits: 0, fetches: 0, done: 0, pending: 0, whilePartitioned: 0, restarts: 0 }
    const violations: string[] = []
    const endMs = performance.now() + HISTORY_MS
    const isOn = () => performance.now() < endMs
    const held = new Set<Node>()

    async function read(node: Node): Promise<void> {
      while (isOn()) {
        const resource = Math.floor(random() * RESOURCES)
        const floor = floors[resource] ?? 0
        const answer = await get(node, resource).catch(() => undefined)
        if (answer?.status === 200) {
          counts.fetches++
          if (String(answer.headers['cache-status']).includes('hit')) counts.hits++
          if (Number(answer.body) < floor) {
            violations.push(`r${resource}: ${answer.body} after ${floor} (${answer.headers['cache-status']})`)
          }
        }
        await sleep(random() * 15)
      }
    }
    async function write(): Promise<void> {
      while (isOn()) {
        const resource = Math.floor(random() * RESOURCES)
        const node = nodes[Math.floor(random() * nodes.length)] as Node
        const version = (versions[resource] ?? 0) + 1
        versions[resource] = version
        const key =
          [`tag:r${resource}`, `url:http://api.example/r/${resource}`, `r${resource}`][
            Math.floor(random() * 3)
          ] ?? ''
        const wasPartitioned = held.size > 0
        const answer = await purge(node, token, key).catch(() => undefined)
        if (answer?.status === 200) {
          floors[resource] = Math.max(floors[resource] ?? 0, version)
          counts.done++
          if (wasPartitioned) counts.whilePartitioned++
        } else {
          counts.pending++
        }
        await sleep(random() * 200)
      }
    }
    async function disturb(): Promise<void> {
      for (let round = 0; isOn(); round++) {
        await sleep(500 + random() * 1500)
        const node = nodes[Math.floor(random() * nodes.length)] as Node
        if (round % 5 === 4) {
          await node.gateway.kill()
          counts.restarts++
          node.gateway = await start(upstream, node.proxy)
        } else if (random() < 0.7) {
          held.add(node)
          node.proxy.hold()
          await sleep(500 + random() * 6000)
          held.delete(node)
          node.proxy.release()
        } else {
          node.proxy.cutAll()
        }
      }
    }
    await Promise.all([...nodes.flatMap((node) => [read(node), read(node)]), write(), write(), disturb()])
    expect(violations).toEqual([])
    // Else it would have shown nothing.
    expect(counts.hits).toBeGreaterThan(20)
    expect(counts.done).toBeGreaterThan(3)
    process.stdout.write(`history: ${JSON.stringify(counts)}\n`)
  })
})

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** Mulberry32. */
function createRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
