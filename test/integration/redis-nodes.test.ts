import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts'
import { ROOT_TOKEN, type RunningGateway, startGateway } from '../support/gateway.ts'
import { type Load, openLoad, type Sample } from '../support/load.ts'
import { describeRedis, type RedisServer, startRedis, until } from '../support/redis.ts'
import { createKey, readMetric, startNodes } from '../support/redis-gateways.ts'
import { worstExcess } from '../support/windows.ts'

/** How many checks the gateways share; `DRIPGATE_CHECKS=200000` for the long run. */
const CHECKS = Number(process.env['DRIPGATE_CHECKS'] ?? 12_000)
/** How long each pattern of load lasts; `DRIPGATE_PATTERN_MS=20000` for the long run. */
const PATTERN_MS = Number(process.env['DRIPGATE_PATTERN_MS'] ?? 2_000)
const KEYS = 4
/** Of one key on one node. */
const EACH = Math.floor(CHECKS / KEYS / 3)

describeRedis.each(['on', 'off'] as const)(
  'three gateways of two threads on one Redis, leases %s',
  (leases) => {
    let server: RedisServer
    let upstream: EchoUpstream
    let nodes: RunningGateway[]
    let loads: Load[]
    beforeAll(async () => {
      server = await startRedis()
      upstream = await startEchoUpstream()
      nodes = await startNodes(3, { redis: { url: server.url }, upstream: upstream.url, leases })
      loads = nodes.map((node) => openLoad(node.gatewayUrl, 24))
    }, 60_000)
    afterAll(async () => {
      await Promise.all((loads ?? []).map((load) => load[Symbol.asyncDispose]()))
      for (const node of nodes ?? []) await node.stop()
      await upstream?.close()
      await server?.close()
    }, 60_000)
    const nodeAt = (index: number) => nodes[index % nodes.length] as RunningGateway
    const loadAt = (index: number) => loads[index % loads.length] as Load
    const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

    it(`admit of ${3 * EACH * KEYS} checks on hot keys exactly their limits, where nothing is refilled`, async () => {
      const limit = Math.floor((3 * EACH) / 5)
      const keys = await Promise.all(
        Array.from({ length: KEYS }, (_, index) => createKey(nodeAt(index), [limit, 0, 0])),
      )
      const receivedBefore = upstream.received()
      const answers = await Promise.all(
        keys.flatMap(({ token }, index) =>
          loads.map(async (load) => ({
            index,
            statuses: await load.blast(EACH, bearer(token), { path: '/deny' }),
          })),
        ),
      )
      for (let index = 0; index < KEYS; index++) {
        const mine = answers.filter((answer) => answer.index === index)
        const count = (status: number) =>
          mine.reduce((sum, { statuses }) => sum + (statuses.get(status) ?? 0), 0)
        expect({ admitted: count(200), denied: count(429) }).toEqual({
          admitted: limit,
          denied: 3 * EACH - limit,
        })
      }
      expect(upstream.received() - receivedBefore).toBe(KEYS * limit)
    }, 900_000)

    it.each([
      ['steady', 6, 12],
      ['at ten times the refill', 60, 12],
      ['in bursts with pauses', 150, 220],
    ])(
      'admit in no window more than the limit and its refills: %s',
      async (_name, perTurn, everyMs) => {
        const key = await createKey(nodeAt(0), [100, 40, 60])
        const samples: Sample[] = []
        const end = performance.now() + PATTERN_MS
        while (performance.now() < end) {
          const turn = Array.from({ length: perTurn }, async (_, index) => {
            samples.push(await loadAt(index).send(bearer(key.token), { path: '/deny' }))
          })
          await Promise.all([...turn, new Promise((resolve) => setTimeout(resolve, everyMs))])
        }
        const admitted = samples.filter(({ status }) => status === 200)
        const bucket = { limit: 100, rate: 40, intervalMs: 60, anchorMs: Date.parse(key.created_at) }
        expect(samples.filter(({ status }) => status !== 200 && status !== 429)).toEqual([])
        expect(admitted.length).toBeGreaterThan(200)
        expect(worstExcess(admitted, bucket)).toBeLessThanOrEqual(0)
      },
      60_000 + 2 * PATTERN_MS,
    )

    // The rest has nothing to do with leases.
    if (leases === 'off') return

    it('refuse a deleted key at once where it was deleted, and within 50 ms (p99) elsewhere', async () => {
      const delays: number[] = []
      for (let round = 0; round < 25; round++) {
        // Without a limit no bucket is asked, so that only messages tell of the delete.
        const limit = round % 2 === 0 ? ([1_000_000, 1_000, 1_000] as const) : ([0, 0, 0] as const)
        const { kid, token } = await createKey(nodeAt(round), limit)
        const samples: { node: number; sample: Sample }[] = []
        let isRunning = true
        const runners = loads.flatMap((load, node) =>
          Array.from({ length: 4 }, async () => {
            while (isRunning)
              samples.push({ node, sample: await load.send(bearer(token), { path: '/deny' }) })
          }),
        )
        await pause(10)
        const deleting = round % nodes.length
        expect((await nodeAt(deleting).rpc('keys.delete', { ksid: 'ks_redis', kid })).status).toBe(200)
        const answeredAt = performance.timeOrigin + performance.now()
        const isHeardOf = (node: number) =>
          samples.some((each) => each.node === node && each.sample.sentAt >= answeredAt)
        await until(() => loads.every((_, node) => isHeardOf(node)))
        isRunning = false
        await Promise.all(runners)
        const late = samples.filter(({ sample }) => sample.sentAt >= answeredAt)
        const atOnce = late.filter(({ node }) => node === deleting).map(({ sample }) => sample.status)
        expect(new Set(atOnce)).toEqual(new Set([401]))
        const lastAccepted = Math.max(
          answeredAt,
          ...late.filter(({ sample }) => sample.status === 200).map(({ sample }) => sample.sentAt),
        )
        delays.push(lastAccepted - answeredAt)
      }
      const worst = delays.toSorted((a, b) => a - b).at(-1) ?? 0
      process.stderr.write(
        `a deleted key was last accepted elsewhere ${worst.toFixed(1)} ms after the answer, of 25\n`,
      )
      expect(worst).toBeLessThanOrEqual(50)
    }, 60_000)

    it('apply a lowered limit at once where it was set, and never hand out what was used', async () => {
      const { kid, token } = await createKey(nodeAt(0), [200, 0, 0])
      const take = async (node: number, count: number) =>
        (await loadAt(node).blast(count, bearer(token), { path: '/deny' })).get(200) ?? 0
      expect((await take(0, 30)) + (await take(1, 30))).toBe(60)
      const set = (limit: number) =>
        nodeAt(2).rpc('keys.update', {
          ksid: 'ks_redis',
          kid,
          ratelimit: { limit, refill_rate: 0, refill_interval: 0 },
        })
      expect((await set(70)).body).toMatchObject({ ratelimit: { limit: 70, state: { remaining: 10 } } })
      expect(await take(2, 30)).toBe(10)
      await set(100)
      expect((await take(2, 5)) + (await take(0, 60))).toBe(30)
    })

    it('show the same keys, and apply a changed limit of the keyspace to all of them', async () => {
      const { body } = await nodeAt(0).rpc('keyspaces.create', {
        name: `shared ${leases}`,
        keys_prefix: 'sh_',
      })
      const { ksid } = body as { ksid: string }
      const created = await nodeAt(1).rpc('keys.create', { ksid })
      const { kid, token } = created.body as { kid: string; token: string }
      const set = (limit: number) =>
        nodeAt(2).rpc('keyspaces.update', { ksid, ratelimit: { limit, refill_rate: 0, refill_interval: 0 } })
      await set(10)
      const check = (node: number) => nodeAt(node).rpc('keys.check', { ksid, token })
      for (let index = 0; index < 4; index++) expect((await check(index)).status).toBe(200)
      await set(5)
      expect((await check(2)).status).toBe(200)
      expect((await check(2)).status).toBe(429)
      expect((await check(0)).status).toBe(429)
      expect((await nodeAt(0).rpc('keys.get', { ksid, kid })).body).toMatchObject({
        kid,
        last_used: expect.any(String),
      })
      expect((await nodeAt(1).rpc('keyspaces.delete', { ksid })).status).toBe(200)
      expect((await check(1)).status).toBe(404)
      await until(async () => (await check(0)).status === 404, 1_000)
    })

    it('work as the example of two nodes shows it', async () => {
      const config = readFileSync(new URL('../../examples/two-nodes/gateway.yaml', import.meta.url), 'utf8')
      const listen = { GATEWAY_LISTEN: '127.0.0.1:0', ADMIN_LISTEN: '127.0.0.1:0' }
      const env = {
        ...listen,
        DRIPGATE_ROOT_TOKEN: ROOT_TOKEN,
        REDIS_URL: `${server.url}/1`,
        UPSTREAM: upstream.url,
      }
      await using one = await startGateway({ config, env })
      await using two = await startGateway({ config, env })
      const { body } = await one.rpc('keys.create', { ksid: 'ks_orders' })
      const { token } = body as { token: string }
      const statuses: number[] = []
      for (let round = 0; round < 8; round++) {
        for (const node of [one, two])
          statuses.push((await fetch(node.gatewayUrl, { headers: bearer(token) })).status)
      }
      expect(statuses).toEqual([...Array(10).fill(200), ...Array(6).fill(429)])
    }, 30_000)

    it('stop to lease where a reload says so', async () => {
      const [node] = await startNodes(1, {
        redis: { url: `${server.url}/2` },
        upstream: upstream.url,
        workers: 1,
      })
      if (node === undefined) throw new Error('no gateway')
      const load = openLoad(node.gatewayUrl, 24)
      const key = await createKey(node, [100_000, 1_000, 200])
      const lease = async () => {
        const before = await readMetric(node, 'dripgate_store_checks_total{where="leased"}')
        await load.blast(2_000, bearer(key.token), { path: '/deny' })
        return (await readMetric(node, 'dripgate_store_checks_total{where="leased"}')) - before
      }
      expect(await lease()).toBeGreaterThan(0)
      const text = readFileSync(node.configFile, 'utf8')
      expect(text).toMatch(/"leases":\s*"on"/)
      writeFileSync(node.configFile, text.replace(/"leases":\s*"on"/, '"leases":"off"'))
      node.signal('SIGHUP')
      await until(() =>
        readMetric(node, 'dripgate_config_last_reload_successful').then((value) => value === 1),
      )
      await until(async () => (await lease()) === 0)
      expect(await lease()).toBe(0)
      await load[Symbol.asyncDispose]()
      await node.stop()
    }, 60_000)

    it('mint service keys on the command line, good on every node', async () => {
      const bin = path.resolve(import.meta.dirname, '../../bin/dripgate.mjs')
      const { configFile, dir } = nodeAt(0)
      const { stdout, stderr, status } = spawnSync(
        process.execPath,
        [bin, 'service-keys', 'create', '--admin', '--config', configFile],
        { cwd: dir, encoding: 'utf8', timeout: 20_000 },
      )
      expect({ status, stderr }).toMatchObject({ status: 0 })
      for (const node of nodes) {
        expect((await node.rpc('serviceKeys.current', {}, stdout.trim())).body).toMatchObject({ admin: true })
      }
    }, 30_000)

    it('count what they ask of Redis, and say nothing is wrong', async () => {
      const metrics = await Promise.all(nodes.map((node) => readMetric(node, 'dripgate_store_calls_total')))
      for (const calls of metrics) expect(calls).toBeGreaterThan(0)
      expect(await readMetric(nodeAt(0), 'dripgate_store_up')).toBe(1)
      const ready = await fetch(`${nodeAt(0).adminUrl}/readyz`)
      expect({ status: ready.status, body: await ready.json() }).toEqual({
        status: 200,
        body: { ready: true, checks: { store: 'ok', threads: '2 of 2' } },
      })
    })
  },
)

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
