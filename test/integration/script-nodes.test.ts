import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Redis } from 'ioredis'
import { expect, it } from 'vitest'
import { openRedisCache } from '../../src/stores/redis/cache-store.ts'
import { createFakeLogger } from '../support/fakes.ts'
import { type RunningGateway, startGateway } from '../support/gateway.ts'
import { describeRedis, startCluster, startRedis, until } from '../support/redis.ts'
import { startNodes } from '../support/redis-gateways.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'

/** The script API in real gateways, over the embedded store and over Redis. */

const MANY = Array.from({ length: 10_000 }, (_, index) => `user:profile:${index}`)
/** A machine that is doing other things must not fail this; the figure is printed. */
const MANY_WITHIN_MS = process.env['CI'] === undefined ? 1_000 : 3_000

interface ScriptAnswer {
  readonly status: number
  readonly retryAfter: string | null
  // biome-ignore lint/suspicious/noExplicitAny: answers are read the way a JavaScript client would.
  readonly body: any
}

async function mintToken(node: RunningGateway): Promise<string> {
  const { status, body } = await node.rpc('serviceKeys.create', { roles: ['SCRIPT'] })
  expect(status).toBe(200)
  return (body as { token: string }).token
}

async function call(node: RunningGateway, token: string, name: string, body: unknown): Promise<ScriptAnswer> {
  const answer = await fetch(`${node.adminUrl}/script/${name}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-api-key': token },
    body: JSON.stringify(body),
  })
  return {
    status: answer.status,
    retryAfter: answer.headers.get('retry-after'),
    body: await answer.json(),
  }
}

async function expectLimit(nodes: readonly RunningGateway[]): Promise<void> {
  const [token, other] = [
    await mintToken(nodes[0] as RunningGateway),
    await mintToken(nodes[0] as RunningGateway),
  ]
  const nodeAt = (index: number) => nodes[index % nodes.length] as RunningGateway
  const passed = await Promise.all(
    Array.from({ length: 60 }, (_, index) => call(nodeAt(index), token, 'get-redis-keys', { keys: 'a' })),
  )
  expect(new Set(passed.map(({ status }) => status))).toEqual(new Set([200]))
  for (const node of nodes) {
    const late = await call(node, token, 'get-redis-keys', { keys: 'a' })
    expect([late.status, late.body]).toEqual([429, { status: 'error', error: 'rate limit exceeded' }])
    expect(Number(late.retryAfter)).toBeGreaterThan(40)
    expect(Number(late.retryAfter)).toBeLessThanOrEqual(60)
  }
  const others = await Promise.all(
    Array.from({ length: 60 }, (_, index) => call(nodeAt(index), other, 'get-redis-keys', { keys: 'a' })),
  )
  expect(new Set(others.map(({ status }) => status))).toEqual(new Set([200]))
}

async function expectMany(node: RunningGateway, token: string, where: string): Promise<void> {
  const items = MANY.map((key) => ({ key, value: 'v' }))
  let quickestMs = Number.POSITIVE_INFINITY
  for (let round = 0; round < 3 && quickestMs > MANY_WITHIN_MS / 4; round++) {
    expect(await call(node, token, 'set-redis-keys', { items })).toMatchObject({ body: { set: 10_000 } })
    const startedMs = performance.now()
    const removed = await call(node, token, 'remove-redis-keys', { keys: MANY })
    quickestMs = Math.min(quickestMs, performance.now() - startedMs)
    expect(removed).toMatchObject({ status: 200, body: { requested: 10_000, deleted: 10_000, skipped: 0 } })
  }
  process.stdout.write(`10,000 keys removed in one call, ${where}: ${quickestMs.toFixed(0)} ms\n`)
  expect(quickestMs).toBeLessThan(MANY_WITHIN_MS)
}

it('on the embedded store: the limit, 10,000 keys, time to live, and a restart', async () => {
  const dir = mkdtempSync(path.join(tmpdir(), 'dripgate-script-'))
  try {
    const node = await startGateway({ config: {}, dir })
    const token = await mintToken(node)
    await expectLimit([node])
    await expectMany(node, token, 'embedded store')
    const items = [
      { key: 'session:1', value: { user: 5 } },
      { key: 'session:2', value: 'short', ttl: 1 },
      { key: 'session:3', value: 'long', ttl: 600 },
    ]
    expect(await call(node, token, 'setRedisKeys', { items })).toMatchObject({ body: { set: 3 } })
    const setAt = Date.now()
    const read = async (gateway: RunningGateway) => {
      const keys = items.map(({ key }) => key)
      return (await call(gateway, token, 'getRedisKeys', { keys, json: true })).body.data
    }
    expect(await read(node)).toEqual({ 'session:1': { user: 5 }, 'session:2': 'short', 'session:3': 'long' })
    await node.stop()
    await using again = await startGateway({ config: {}, dir })
    await until(() => Date.now() > setAt + 1_100)
    expect(await read(again)).toEqual({ 'session:1': { user: 5 }, 'session:2': null, 'session:3': 'long' })

    await again.kill()
    await using afterKill = await startGateway({ config: {}, dir })
    expect(await call(afterKill, token, 'invalidate-cache', { key: 'session:1' })).toMatchObject({
      status: 200,
      body: { status: 'success', deleted: 1, acknowledged: 1 },
    })
    expect((await read(afterKill))['session:1']).toBeNull()
    const text = await (await fetch(`${afterKill.adminUrl}/metrics`)).text()
    expect(text).toContain('dripgate_script_requests_total{call="invalidate-cache",outcome="success"} 1')
    expect(text).toContain('dripgate_script_keys_total{call="get-redis-keys",result="missing"} 2')
    const line = await afterKill.waitForLine('script call')
    expect(line).toMatchObject({ call: 'invalidate-cache', keys: ['session:1'], outcome: 'success' })
    expect(line['skid']).toMatch(/^sk_/)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}, 60_000)

describeRedis('over Redis', () => {
  it('three nodes have one limit and one cache database, and keep the gateway’s own keys', async () => {
    await using server = await startRedis()
    const nodes = await startNodes(3, {
      redis: { url: server.url },
      upstream: 'http://127.0.0.1:9',
      workers: 1,
    })
    const [a, b, c] = nodes as [RunningGateway, RunningGateway, RunningGateway]
    try {
      await expectLimit(nodes)
      const token = await mintToken(a)
      await expectMany(b, token, 'Redis')
      expect(await call(a, token, 'set-redis-keys', { key: 'user:1', value: [1], ttl: 60 })).toMatchObject({
        body: { set: 1 },
      })
      expect(await server.admin.get('user:1')).toBe('[1]')
      expect(await server.admin.pttl('user:1')).toBeGreaterThan(50_000)
      await server.admin.hset('user:hash', 'f', 'v')
      const keys = ['user:1', 'user:hash', 'user:none']
      expect(await call(b, token, 'get-redis-keys', { keys })).toMatchObject({
        status: 200,
        body: { data: { 'user:1': '[1]', 'user:hash': null, 'user:none': null } },
      })
      expect(await call(c, token, 'removeRedisKeys', { keys })).toMatchObject({
        body: { requested: 3, deleted: 2, skipped: 1 },
      })
      const before = await server.admin.dbsize()
      for (const bad of ['dripgate:{m}:layout', 'dripgate:x', 'user:*', 7]) {
        expect((await call(c, token, 'remove-redis-keys', { keys: ['user:1', bad] })).status).toBe(
          typeof bad === 'string' && bad.startsWith('dripgate:') ? 403 : 400,
        )
      }
      expect(await server.admin.dbsize()).toBe(before)

      await server.kill()
      const down = await call(a, token, 'remove-redis-keys', { keys: 'user:1' })
      expect([down.status, down.body]).toEqual([503, { status: 'error', error: 'store unavailable' }])
    } finally {
      await Promise.all(nodes.map((node) => node.kill()))
    }
  }, 90_000)

  it('another database of another server is used where the configuration names one', async () => {
    await using server = await startRedis()
    await using node = await startGateway({
      config: { admin: { script: { limit: 100_000, redis: { url: `${server.url}/3` } } } },
    })
    const token = await mintToken(node)
    await call(node, token, 'set-redis-keys', { key: 'a', value: 'one' })
    const third = new Redis({ host: '127.0.0.1', port: server.port, db: 3 })
    try {
      expect(await third.get('a')).toBe('one')
      expect(await server.admin.dbsize()).toBe(0)
      expect((await call(node, token, 'invalidate-cache', { key: 'a' })).body).toMatchObject({ deleted: 1 })
      expect(await third.dbsize()).toBe(0)
    } finally {
      third.disconnect()
    }
    await server.kill()
    expect(await call(node, token, 'remove-redis-keys', { keys: ['a', 'b'] })).toMatchObject({
      status: 502,
      body: { deleted: 0, failed: ['a', 'b'] },
    })
    await server.start()
    await until(
      async () => (await call(node, token, 'remove-redis-keys', { keys: ['a', 'b'] })).status === 200,
    )
  }, 60_000)

  it('a gateway starts without its cache database, and says so', async () => {
    await using server = await startRedis()
    await using proxy = await startTcpProxy(server.port)
    await server.kill()
    await using node = await startGateway({
      config: { admin: { script: { limit: 100_000, redis: { url: `redis://127.0.0.1:${proxy.port}` } } } },
    })
    await node.waitForLine(
      'the cache database of the script API cannot be reached yet; its calls get 502 until it can',
    )
    const token = await mintToken(node)
    expect((await call(node, token, 'get-redis-keys', { keys: 'a' })).status).toBe(502)
    await server.start()
    await until(async () => (await call(node, token, 'get-redis-keys', { keys: 'a' })).status === 200)
  }, 60_000)

  it('a cache database that hangs is given up in time, and found again', async () => {
    await using server = await startRedis()
    const { cacheStore, close } = await openRedisCache({ url: server.url }, createFakeLogger())
    try {
      server.signal('SIGSTOP')
      const startedMs = performance.now()
      const outcome = await cacheStore.removeMany(MANY)
      expect(outcome).toMatchObject({ done: 0, failed: MANY })
      expect(performance.now() - startedMs).toBeLessThan(10_000)
      server.signal('SIGCONT')
      await until(async () => (await cacheStore.removeMany(MANY)).failed.length === 0)
    } finally {
      server.signal('SIGCONT')
      close()
    }
  }, 60_000)

  it('where one master of a cluster is gone: 502 says what was done, and repeating does the rest', async () => {
    await using cluster = await startCluster()
    for (const { admin } of cluster.servers) await admin.config('SET', 'cluster-require-full-coverage', 'no')
    await using node = await startGateway({
      config: { admin: { script: { limit: 100_000, redis: { cluster: [...cluster.urls] } } } },
    })
    const token = await mintToken(node)
    await expectMany(node, token, 'Redis Cluster')
    const keys = Array.from({ length: 300 }, (_, index) => `session:${index}`)
    const items = keys.map((key) => ({ key, value: 'v' }))
    expect((await call(node, token, 'set-redis-keys', { items })).body).toMatchObject({ set: 300 })

    const [, , victim] = cluster.servers
    await victim?.kill()
    const partial = await call(node, token, 'remove-redis-keys', { keys: [...keys, 'missing'] })
    expect(partial.status).toBe(502)
    const { requested, deleted, skipped, failed } = partial.body
    expect([requested, deleted + skipped + failed.length]).toEqual([301, 301])
    expect(deleted).toBeGreaterThan(100)
    expect(failed.length).toBeGreaterThan(50)
    const read = await call(node, token, 'get-redis-keys', { keys })
    expect(read.status).toBe(502)
    expect(Object.values(read.body.data).every((value) => value === null)).toBe(true)
    expect(read.body.failed.toSorted()).toEqual(failed.filter((key: string) => key !== 'missing').toSorted())

    await victim?.start()
    await until(async () => (await call(node, token, 'remove-redis-keys', { keys })).status === 200)
  }, 90_000)
})
