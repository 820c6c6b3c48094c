import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { startEchoUpstream } from '../support/echo-upstream.ts'
import { type InProcessGateway, startInProcess, until } from '../support/in-process.ts'

/** A reload is all or nothing, over all threads, whatever happens meanwhile. */

const configOf = (target: string, route: string, more: { limit?: number; log?: string } = {}) => ({
  gateway: { listen: '127.0.0.1:0', workers: 2, access_log: { output: more.log ?? 'off' } },
  upstreams: { echo: { targets: [target] } },
  keyspaces: [{ ksid: 'ks_r', name: 'r', keys_prefix: 'r_', ratelimit: { limit: more.limit ?? 100 } }],
  routes: [{ name: 'only', match: { path: route }, upstream: 'echo' }],
})

/** Statuses of requests on fresh connections, so that both threads get some. */
async function probe({ gateway }: InProcessGateway, route: string): Promise<Set<number>> {
  const statuses = new Set<number>()
  for (let n = 0; n < 30; n++) {
    const answer = await fetch(gateway.gatewayUrl + route, { headers: { connection: 'close' } })
    await answer.text()
    statuses.add(answer.status)
  }
  return statuses
}

describe('a reload', () => {
  it('reaches a thread that is just being replaced', async () => {
    await using upstream = await startEchoUpstream()
    await using running = await startInProcess(configOf(upstream.url, '/old'))
    const { gateway } = running
    await gateway.threads.workers()[0]?.terminate()
    await until(() => gateway.threads.count() === 1)
    // Long enough for the replacement to have been given the old configuration.
    await new Promise((resolve) => setTimeout(resolve, 260))
    expect(await running.reload(configOf(upstream.url, '/new'))).toMatchObject({ kind: 'done' })
    await until(() => gateway.threads.count() === 2)
    expect(await probe(running, '/new')).toEqual(new Set([200]))
    expect(await probe(running, '/old')).toEqual(new Set([404]))
  })

  it('that is refused changes nothing: no keyspace, no route, no thread started later', async () => {
    await using upstream = await startEchoUpstream()
    await using running = await startInProcess(configOf(upstream.url, '/old'))
    const { gateway } = running
    const log = path.join(running.directory, 'nowhere', 'access.log')
    const outcome = await running.reload(configOf(upstream.url, '/new', { limit: 7, log }))
    expect(outcome).toMatchObject({ kind: 'refused', problems: [expect.stringContaining(log)] })
    expect(await running.rpc('keyspaces.get', { ksid: 'ks_r' })).toMatchObject({
      body: { ratelimit: { limit: 100 } },
    })
    await gateway.threads.workers()[0]?.terminate()
    await until(() => gateway.threads.count() === 1)
    await until(() => gateway.threads.count() === 2)
    expect(await probe(running, '/old')).toEqual(new Set([200]))
  })

  it('that takes the name of another keyspace is refused whole', async () => {
    await using upstream = await startEchoUpstream()
    await using running = await startInProcess(configOf(upstream.url, '/old'))
    await running.rpc('keyspaces.create', { name: 'taken', keys_prefix: 'taken_' })
    const config = configOf(upstream.url, '/new', { limit: 7 })
    const clash = { ksid: 'ks_clash', name: 'taken', keys_prefix: 'c_', ratelimit: { limit: 1 } }
    const outcome = await running.reload({ ...config, keyspaces: [...config.keyspaces, clash] })
    expect(outcome).toMatchObject({ kind: 'refused', problems: [expect.stringContaining('taken')] })
    expect(await running.rpc('keyspaces.get', { ksid: 'ks_r' })).toMatchObject({
      body: { ratelimit: { limit: 100 } },
    })
    expect(await probe(running, '/old')).toEqual(new Set([200]))
  })

  it('many times over leaves no listeners behind', async () => {
    const warnings: string[] = []
    const onWarning = (warning: Error) => void warnings.push(warning.message)
    process.on('warning', onWarning)
    await using upstream = await startEchoUpstream()
    await using running = await startInProcess(configOf(upstream.url, '/old'))
    for (let n = 0; n < 15; n++) {
      expect(await running.reload(configOf(upstream.url, '/old'))).toMatchObject({ kind: 'done' })
    }
    await new Promise((resolve) => setImmediate(resolve))
    process.off('warning', onWarning)
    expect(warnings).toEqual([])
  })
})
