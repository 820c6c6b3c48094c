import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect, it } from 'vitest'
import type { RedisRecord } from '../../src/stores/redis/records.ts'
import { median, percentile } from '../bench/figures.ts'
import { hash } from '../contract/key-store.contract.ts'
import { createCertificate } from '../support/certificate.ts'
import { startEchoUpstream } from '../support/echo-upstream.ts'
import { FakeClock } from '../support/fakes.ts'
import { openLoad } from '../support/load.ts'
import {
  describeRedis,
  findFreePort,
  startCluster,
  startRedis,
  startSentinel,
  until,
} from '../support/redis.ts'
import { createKey, readMetric, startNodes } from '../support/redis-gateways.ts'
import {
  openTestNode,
  openTestRedis,
  type RedisPlace,
  recordOf,
  type TestNode,
  uniquePrefix,
} from '../support/redis-store.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'

const LIFETIME = { capacity: 1_000, rate: 0, intervalMs: 0 }
const TIMEOUT_MS = 25
/** What the deadlines leave for everything but the time-out itself. */
const HUNG_MS_MAX = 30 - TIMEOUT_MS
const DEAD_MS_MAX = 1
const BACK_MS_MAX = 1_000

interface Tally {
  admitted: number
  failed: number
  /** Of each check. */
  readonly waitsMs: number[]
  /** Of each check, how much longer than a bare timer of 25 ms that was started with it: so without what the machine adds. */
  readonly beyondTimeoutMs: number[]
}

/** One check after the other until `isOver`, so that each has its own duration. */
async function checkUntil(
  node: TestNode,
  record: RedisRecord,
  isOver: (tally: Tally) => boolean,
): Promise<Tally> {
  const tally: Tally = { admitted: 0, failed: 0, waitsMs: [], beyondTimeoutMs: [] }
  const deadline = performance.now() + 20_000
  while (!isOver(tally) && performance.now() < deadline) {
    const startedAt = performance.now()
    const timer = pause(TIMEOUT_MS).then(() => performance.now() - startedAt)
    await node.take(record).then(
      ({ kind }) => (kind === 'taken' ? tally.admitted++ : undefined),
      (error: unknown) => {
        if (!(error instanceof Error) || error.name !== 'StoreUnavailable') throw error
        tally.failed++
      },
    )
    const waitedMs = performance.now() - startedAt
    tally.waitsMs.push(waitedMs)
    if (waitedMs > TIMEOUT_MS / 2) tally.beyondTimeoutMs.push(waitedMs - (await timer))
    await pause(2)
  }
  return tally
}

/** But for one in twenty, in whose midst the machine may have had no time for us. */
function mostOf(values: readonly number[]): number {
  return percentile(values, 0.95)
}

function tell(text: string): void {
  process.stderr.write(`${text}\n`)
}

const isBack = async (node: TestNode, record: RedisRecord) =>
  (await node.take(record, 0).catch(() => undefined))?.kind === 'taken'

async function timeToReturn(node: TestNode, record: RedisRecord): Promise<number> {
  const startedAt = performance.now()
  await until(() => isBack(node, record))
  return performance.now() - startedAt
}

/** A node with the deadline that tests are about, and one with time, on the same data. */
async function openBoth(place: RedisPlace): Promise<{ node: TestNode; calm: TestNode }> {
  const settings = { ...place, prefix: uniquePrefix() }
  const [node, calm] = await Promise.all([
    openTestNode({ ...settings, timeout: TIMEOUT_MS }),
    openTestNode(settings),
  ])
  return { node, calm }
}

describeRedis('a Redis that fails', () => {
  it('hung: each check fails within 30 ms, the breaker opens, all is soon back, nothing is done late', async () => {
    await using server = await startRedis()
    const { node, calm } = await openBoth({ url: server.url })
    const record = recordOf(LIFETIME)
    await calm.take(record, 100)
    server.signal('SIGSTOP')
    const hung = await checkUntil(node, record, ({ failed }) => failed >= 200)
    expect(hung.admitted).toBe(0)
    const waited = hung.beyondTimeoutMs.length
    const longestMs = Math.max(...hung.waitsMs).toFixed(1)
    tell(
      `hung: ${waited} of 200 checks waited, the longest ${longestMs} ms; the others ${mostOf(hung.waitsMs).toFixed(2)} ms`,
    )
    expect(waited).toBeGreaterThanOrEqual(5)
    expect(median(hung.beyondTimeoutMs)).toBeLessThan(HUNG_MS_MAX)
    // All others were refused at once.
    expect(mostOf(hung.waitsMs)).toBeLessThan(DEAD_MS_MAX)
    expect(node.figure('isDown')).toBe(1)
    // Five that waited, and one probe in 250 ms.
    expect(node.figure('calls')).toBeLessThan(20)
    server.signal('SIGCONT')
    const backMs = await timeToReturn(node, record)
    tell(`hung: back ${backMs.toFixed(0)} ms after the server was`)
    expect(backMs).toBeLessThan(BACK_MS_MAX)
    expect(node.figure('isDown')).toBe(0)
    expect(await calm.take(record, 0)).toMatchObject({ remaining: 900 })
    await Promise.all([node.close(), calm.close()])
  }, 30_000)

  it.each([
    ['without a log of writes: what was spent is forgotten, and counted', [], 1_000, 400],
    [
      'with a log of writes: nothing is forgotten',
      ['--appendonly', 'yes', '--appendfsync', 'always'],
      600,
      0,
    ],
  ] as const)(
    'killed and restarted %s',
    async (_name, args, left, forgotten) => {
      await using server = await startRedis(args)
      const { node, calm } = await openBoth({ url: server.url })
      const record = recordOf(LIFETIME)
      await calm.take(record, 399)
      await until(() => isBack(node, record))
      await until(() =>
        node.take(record).then(
          ({ kind }) => kind === 'taken',
          () => false,
        ),
      )
      await server.kill()
      await checkUntil(node, record, ({ failed }) => failed >= 20)
      const dead = await checkUntil(node, record, ({ failed }) => failed >= 100)
      await server.start()
      const backMs = await timeToReturn(node, record)
      tell(
        `dead: decided in ${mostOf(dead.waitsMs).toFixed(3)} ms; back ${backMs.toFixed(0)} ms after the server was`,
      )
      expect(mostOf(dead.waitsMs)).toBeLessThan(DEAD_MS_MAX)
      expect(backMs).toBeLessThan(BACK_MS_MAX)
      await until(() => isBack(calm, record))
      expect(await calm.take(record, 0)).toMatchObject({ remaining: left })
      expect(node.figure('forgotten')).toBe(forgotten)
      await Promise.all([node.close(), calm.close()])
    },
    30_000,
  )

  it('become a read-only replica: refused, and back when it is the master again', async () => {
    await using server = await startRedis()
    await using node = await openTestNode({ url: server.url, prefix: uniquePrefix() })
    const record = recordOf(LIFETIME)
    await node.take(record)
    await server.admin.call('REPLICAOF', '127.0.0.1', '1')
    await expect(node.take(record)).rejects.toMatchObject({ name: 'StoreUnavailable' })
    await server.admin.call('REPLICAOF', 'NO', 'ONE')
    await until(() => isBack(node, record))
    expect(await node.take(record)).toMatchObject({ remaining: 998 })
  }, 30_000)

  it('out of memory: checks fail, RPC writes say so, and nothing is half done', async () => {
    await using server = await startRedis()
    const prefix = uniquePrefix()
    await using node = await openTestNode({ url: server.url, prefix })
    const store = await openTestRedis({ url: server.url, prefix }, new FakeClock())
    const record = recordOf(LIFETIME)
    await node.take(record)
    await server.admin.config('SET', 'maxmemory', '1')
    await expect(node.take(record)).rejects.toMatchObject({ name: 'StoreUnavailable' })
    const keyspace = {
      ksid: 'ks_a',
      name: 'a',
      keysPrefix: 'a_',
      limit: undefined,
      requireExpiration: false,
      createdAtMs: 0,
    }
    await expect(store.keyStore.createKeyspace(keyspace)).rejects.toMatchObject({ code: 'store_full' })
    await server.admin.config('SET', 'maxmemory', '0')
    await until(() => isBack(node, record))
    expect(await node.take(record)).toMatchObject({ remaining: 998 })
    await store.keyStore.createKeyspace(keyspace)
    await store.close()
  }, 30_000)

  it('with something else under a key: only that key fails', async () => {
    await using server = await startRedis()
    await using node = await openTestNode({ url: server.url, prefix: uniquePrefix() })
    const [list, text, good] = [recordOf(LIFETIME), recordOf(LIFETIME), recordOf(LIFETIME)]
    const keyOf = ({ shard, kid }: RedisRecord) => node.checker.layout.bucket(shard, kid)
    await server.admin.rpush(keyOf(list), 'x')
    await server.admin.set(keyOf(text), '9 a state of some later version')
    const results = await Promise.allSettled([list, good, text].map((record) => node.take(record)))
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'rejected'])
    expect(await server.admin.get(keyOf(text))).toBe('9 a state of some later version')
    expect(node.figure('isDown')).toBe(0)
  })

  it('with a connection that is cut in the middle of an answer: that check fails, the next works', async () => {
    await using server = await startRedis()
    await using proxy = await startTcpProxy(server.port)
    await using node = await openTestNode({ url: `redis://127.0.0.1:${proxy.port}`, prefix: uniquePrefix() })
    const record = recordOf(LIFETIME)
    await node.take(record)
    proxy.cutAnswersAfter(7)
    await expect(node.take(record)).rejects.toMatchObject({ name: 'StoreUnavailable' })
    proxy.cutAnswersAfter(undefined)
    await until(() => isBack(node, record))
    // The one that was cut off had been carried out, once.
    expect(await node.take(record)).toMatchObject({ remaining: 997 })
  }, 30_000)

  it.each([
    ['killed', 'SIGKILL'],
    ['hung', 'SIGSTOP'],
  ] as const)(
    '%s, and over to a replica by Sentinels: served again, and no bucket is more than full',
    async (_name, signal) => {
      await using sentinel = await startSentinel()
      const { node, calm } = await openBoth({ sentinels: sentinel.urls, name: sentinel.name })
      const record = recordOf(LIFETIME)
      const before = await checkUntil(node, record, ({ admitted }) => admitted >= 300)
      sentinel.master.signal(signal)
      const during = await checkUntil(node, record, ({ admitted }) => admitted >= 50)
      if (signal === 'SIGSTOP') expect(median(during.beyondTimeoutMs)).toBeLessThan(HUNG_MS_MAX)
      await until(() => isBack(calm, record))
      const { remaining } = await calm.take(record, 0)
      // A check that failed may have been carried out, and then counts as refused too early.
      const forgotten = before.admitted + during.admitted + remaining - 1_000
      tell(`Sentinel failover after ${signal}: ${during.failed} checks failed, ${forgotten} tokens forgotten`)
      expect(forgotten).toBeLessThanOrEqual(node.figure('forgotten'))
      expect(forgotten).toBeLessThanOrEqual(1_000)
      await Promise.all([node.close(), calm.close()])
    },
    60_000,
  )

  it('over to a replica of a cluster: other shards go on, the failed one comes back', async () => {
    await using cluster = await startCluster({ replicas: true })
    await using node = await openTestNode({ cluster: cluster.urls, prefix: uniquePrefix(), timeout: 25 })
    const [victim] = cluster.servers
    const records = Array.from({ length: 40 }, () => recordOf(LIFETIME))
    await until(async () => (await Promise.all(records.map((record) => isBack(node, record)))).every(Boolean))
    const slots = await Promise.all(records.map((record) => slotOf(record)))
    const own = records.filter((_, index) => (slots[index] ?? 0) < 5_461)
    const others = records.filter((_, index) => (slots[index] ?? 0) >= 5_461)
    expect({ own: own.length > 0, others: others.length > 0 }).toEqual({ own: true, others: true })
    for (const record of records) await node.take(record, 10)
    await pause(100)
    await victim?.kill()
    await pause(50)
    const [lost, kept] = [own[0] ?? recordOf(LIFETIME), others[0] ?? recordOf(LIFETIME)]
    const healthy = await checkUntil(node, kept, ({ admitted, failed }) => admitted + failed >= 50)
    expect(healthy.failed).toBeLessThan(25)
    await until(() => isBack(node, lost), 20_000)
    expect((await node.take(lost, 0)).remaining).toBeGreaterThanOrEqual(990)

    async function slotOf({ shard, kid }: RedisRecord): Promise<number> {
      return Number(
        await cluster.servers[1]?.admin.call('CLUSTER', 'KEYSLOT', node.checker.layout.bucket(shard, kid)),
      )
    }
  }, 60_000)

  it('to pass on changes: records are read again every second, and messages count again when it is back', async () => {
    await using server = await startRedis()
    const clock = new FakeClock(Date.now())
    const prefix = uniquePrefix()
    const store = await openTestRedis({ url: server.url, prefix }, clock)
    await using node = await openTestNode({ url: server.url, prefix })
    await store.keyStore.createKeyspace({
      ksid: 'ks_a',
      name: 'a',
      keysPrefix: 'a_',
      limit: LIFETIME,
      requireExpiration: false,
      createdAtMs: 0,
    })
    const create = (n: number) =>
      store.keyStore.createKey({
        kid: `k_${n}`,
        ksid: 'ks_a',
        tokenHash: hash(`t${n}`),
        createdAtMs: 0,
        expiresAt: undefined,
        ownLimit: undefined,
      })
    for (const n of [1, 2]) await create(n)
    const { records } = node.checker
    await until(() => node.figure('isDeaf') === 0)
    expect(await records.find(hash('t1'))).toMatchObject({ kid: 'k_1' })
    expect(records.find(hash('t1'))).not.toBeInstanceOf(Promise)
    await store.keyStore.deleteKey('ks_a', 'k_1')
    await until(async () => (await records.find(hash('t1'))) === undefined, 1_000)
    const held = await records.find(hash('t2'))
    if (held === undefined) throw new Error('no key')

    await server.admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
    await until(() => node.figure('isDeaf') === 1, 2_000)
    // A message that nobody hears: but the bucket itself refuses whoever still believes in the key.
    expect(await node.take(held)).toMatchObject({ kind: 'taken' })
    await store.keyStore.deleteKey('ks_a', 'k_2')
    expect((await node.take(held)).kind).toBe('stale')
    await until(async () => (await records.find(hash('t2'))) === undefined, 1_500)
    await until(() => node.figure('isDeaf') === 0, 5_000)
    await store.close()
  }, 30_000)

  it('decides as each route says: 503, unlimited, or by own buckets; says so in answers, metrics and readiness', async () => {
    await using server = await startRedis()
    await using upstream = await startEchoUpstream()
    const [node] = await startNodes(1, { redis: { url: server.url, timeout: 25 }, upstream: upstream.url })
    if (node === undefined) throw new Error('no gateway')
    const load = openLoad(node.gatewayUrl, 8)
    const key = await createKey(node, [200, 0, 0])
    const headers = { authorization: `Bearer ${key.token}` }
    const get = (name: string) => fetch(`${node.gatewayUrl}/${name}`, { headers })
    // So that each thread knows the key.
    await load.blast(60, headers, { path: '/deny' })
    server.signal('SIGSTOP')
    await until(async () => (await get('deny')).status === 503)
    const denied = await get('deny')
    expect([denied.status, denied.headers.get('retry-after')]).toEqual([503, '1'])
    expect(await denied.json()).toMatchObject({ error: { code: 'store_unavailable' } })
    const allowed = await get('allow')
    expect([allowed.status, allowed.headers.get('x-dripgate-degraded')]).toEqual([200, 'allow'])
    const local = await get('local')
    expect([local.status, local.headers.get('x-dripgate-degraded')]).toEqual([200, 'local'])
    // Two threads with half of what each last knew to be left; undivided it would be more than the limit.
    const statuses = await load.blast(300, headers, { path: '/local' })
    expect(statuses.get(200) ?? 0).toBeLessThanOrEqual(200)
    expect(statuses.get(200) ?? 0).toBeGreaterThan(20)
    expect(statuses.get(429) ?? 0).toBeGreaterThanOrEqual(100)
    for (const mode of ['deny', 'allow', 'local']) {
      expect(await readMetric(node, `dripgate_store_error_decisions_total{mode="${mode}"}`)).toBeGreaterThan(
        0,
      )
    }
    expect(await readMetric(node, 'dripgate_store_down_threads')).toBeGreaterThan(0)
    const ready = await fetch(`${node.adminUrl}/readyz`)
    expect({ status: ready.status, body: await ready.json() }).toMatchObject({
      status: 503,
      body: { checks: { store: 'unavailable', store_down: expect.any(String) } },
    })
    server.signal('SIGCONT')
    await until(async () => (await get('deny')).status === 200, 3_000)
    await load[Symbol.asyncDispose]()
    await node.stop()
  }, 60_000)

  it('warns at start of settings that forget buckets, and refuses data of another layout', async () => {
    await using server = await startRedis(['--maxmemory-policy', 'allkeys-lru', '--maxmemory', '100mb'])
    const prefix = uniquePrefix()
    const store = await openTestRedis({ url: server.url, prefix }, new FakeClock())
    const warnings = store.logger.lines.filter(({ level }) => level === 'warn').map(({ message }) => message)
    expect(warnings).toEqual([expect.stringContaining('noeviction'), expect.stringContaining('appendonly')])
    await store.close()
    await server.admin.set(`${prefix}{m}:layout`, '2')
    await expect(openTestRedis({ url: server.url, prefix }, new FakeClock())).rejects.toThrow(
      /has layout 2, .* needs 1/,
    )
    const elsewhere = openTestRedis({ url: 'redis://user:secret@127.0.0.1:1', prefix }, new FakeClock())
    await expect(elsewhere).rejects.toThrow(/^store\.redis \(127\.0\.0\.1:1\) cannot be used: /)
  }, 30_000)

  it('is reached by TLS with a password, and not without either', async () => {
    const { cert, key } = createCertificate()
    const dir = mkdtempSync(path.join(tmpdir(), 'dripgate-tls-'))
    const [ca, keyFile] = [path.join(dir, 'cert.pem'), path.join(dir, 'key.pem')]
    writeFileSync(ca, cert)
    writeFileSync(keyFile, key)
    const port = await findFreePort()
    const files = ['--tls-cert-file', ca, '--tls-key-file', keyFile, '--tls-ca-cert-file', ca]
    const tls = ['--tls-port', String(port), ...files, '--tls-auth-clients', 'no']
    await using _server = await startRedis([...tls, '--requirepass', 'p@ss'])
    const prefix = uniquePrefix()
    const url = (password: string) => `rediss://:${password}@127.0.0.1:${port}`
    {
      await using node = await openTestNode({ url: url('p%40ss'), ca, prefix })
      expect(await node.take(recordOf(LIFETIME))).toMatchObject({ kind: 'taken' })
    }
    await expect(openTestNode({ url: url('p%40ss'), prefix }, undefined, 300)).rejects.toThrow(
      /self-signed|certificate/,
    )
    await expect(openTestNode({ url: url('wrong'), ca, prefix }, undefined, 300)).rejects.toThrow(/WRONGPASS/)
    rmSync(dir, { recursive: true })
  }, 30_000)

  it('sweeps keys that expired long ago, and what deleted keyspaces leave behind', async () => {
    await using server = await startRedis()
    const clock = new FakeClock(Date.now())
    const prefix = uniquePrefix()
    const store = await openTestRedis({ url: server.url, prefix }, clock, { keepExpiredMs: 1_000_000 })
    const keyspaceOf = (letter: string) => ({
      ksid: `ks_${letter}`,
      name: letter,
      keysPrefix: letter,
      limit: LIFETIME,
      requireExpiration: false,
      createdAtMs: 0,
    })
    for (const letter of ['a', 'b']) await store.keyStore.createKeyspace(keyspaceOf(letter))
    const create = (n: number, ksid: string, expiresMs?: number) =>
      store.keyStore.createKey({
        kid: `k_${n}`,
        ksid,
        tokenHash: hash(`t${n}`),
        createdAtMs: 0,
        ownLimit: undefined,
        expiresAt:
          expiresMs === undefined ? undefined : { text: new Date(expiresMs).toISOString(), ms: expiresMs },
      })
    for (let n = 0; n < 10; n++) await create(n, 'ks_a', n < 6 ? clock.now + 1_000 : undefined)
    for (let n = 10; n < 20; n++) await create(n, 'ks_b')
    clock.now += 500_000
    await store.sweep()
    expect((await store.keyStore.listKeys('ks_a', { page: 1, limit: 10 })).total).toBe(10)
    clock.now += 600_000
    await store.sweep()
    expect((await store.keyStore.listKeys('ks_a', { page: 1, limit: 10 })).total).toBe(4)
    expect(await store.keyStore.findKey('ks_a', 'k_1')).toBeUndefined()
    await store.keyStore.deleteKeyspace('ks_b')
    await store.keyStore.deleteKeyspace('ks_a')
    await store.sweep()
    await store.close()
    const left = await server.admin.keys(`${prefix}*`)
    expect(left.filter((key) => !/\{m\}:(layout|clock|seq)$/.test(key))).toEqual([])
  }, 30_000)
})

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
