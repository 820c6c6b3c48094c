import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, it } from 'vitest'
import { createLayout } from '../../src/stores/redis/layout.ts'
import { hash } from '../contract/key-store.contract.ts'
import { startEchoUpstream } from '../support/echo-upstream.ts'
import { startInProcess } from '../support/in-process.ts'
import { describeRedis, startRedis, until } from '../support/redis.ts'
import { openTestNode, openTestRedis, uniquePrefix } from '../support/redis-store.ts'

/** What was changed behind the gateway's back holds on every thread once the cached metadata is purged. */

it('a purge makes all threads read keys anew from the database, and leaves what was spent', async () => {
  await using upstream = await startEchoUpstream()
  await using running = await startInProcess({
    gateway: { listen: '127.0.0.1:0', workers: 2 },
    upstreams: { echo: { targets: [upstream.url] } },
    keyspaces: [{ ksid: 'ks_a', name: 'a', keys_prefix: 'a_', ratelimit: { limit: 1000 } }],
    routes: [{ keyspace: 'ks_a', match: { path: '/' }, upstream: 'echo' }],
  })
  const { body } = await running.rpc('keys.create', { ksid: 'ks_a' })
  const { token, kid } = body as { token: string; kid: string }
  /** Connections of their own, so that both threads get some. */
  const statuses = async () => {
    const headers = { authorization: `Bearer ${token}`, connection: 'close' }
    const answers = Array.from({ length: 20 }, () => fetch(running.gateway.gatewayUrl, { headers }))
    return new Set((await Promise.all(answers)).map(({ status }) => status))
  }
  expect(await statuses()).toEqual(new Set([200]))

  using database = new DatabaseSync(path.join(running.directory, 'dripgate.db'), { timeout: 5_000 })
  database.exec("UPDATE key SET expires_at_ms = unixepoch() * 1000, expires_at = '2026-01-01T00:00:00Z'")
  expect(await statuses()).toEqual(new Set([200]))
  expect(await running.gateway.purger.purge('tag:user-5')).toEqual({ kind: 'done', acknowledged: 1 })
  expect(await statuses()).toEqual(new Set([200]))
  expect(await running.gateway.purger.purge(`key:${kid}`)).toEqual({ kind: 'done', acknowledged: 1 })
  expect(await statuses()).toEqual(new Set([401]))

  database.exec('UPDATE key SET expires_at_ms = NULL, expires_at = NULL')
  await running.gateway.purger.purge('user:profile:12345')
  expect(await statuses()).toEqual(new Set([200]))
  const found = await running.rpc('keys.get', { ksid: 'ks_a', kid })
  expect(found.body).toMatchObject({ ratelimit: { state: { remaining: 1000 - 4 * 20 } } })
})

describeRedis('over Redis', () => {
  it('a purge reaches the threads of other nodes', async () => {
    await using server = await startRedis()
    const settings = { url: server.url, prefix: uniquePrefix() }
    const store = await openTestRedis(settings, { bucketMs: Date.now, wallMs: Date.now })
    await using node = await openTestNode(settings)
    try {
      const keyspace = { ksid: 'ks_a', name: 'a', keysPrefix: 'a_', limit: undefined }
      await store.keyStore.createKeyspace({ ...keyspace, requireExpiration: false, createdAtMs: 1 })
      const tokenHash = hash('token')
      const key = { kid: 'k_a', ksid: 'ks_a', tokenHash, expiresAt: undefined, ownLimit: undefined }
      await store.keyStore.createKey({ ...key, createdAtMs: 1 })
      await until(async () => node.checker.isHearing())
      expect(await node.checker.records.find(tokenHash)).toMatchObject({ kid: 'k_a' })

      await server.admin.del(createLayout(settings.prefix).token(tokenHash))
      expect(await node.checker.records.find(tokenHash)).toMatchObject({ kid: 'k_a' })
      expect(await store.announce({ kind: 'records' })).toBe(true)
      await until(async () => (await node.checker.records.find(tokenHash)) === undefined)
    } finally {
      await store.close()
    }
  })
})
