import { renameSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts'
import { ROOT_TOKEN, type RunningGateway, startGateway } from '../support/gateway.ts'
import { until } from '../support/in-process.ts'

/** Reloads of a whole gateway, as operators see them: by the file, and by the management RPC. */

let upstream: EchoUpstream
let gateway: RunningGateway

beforeAll(async () => {
  upstream = await startEchoUpstream()
  gateway = await startGateway({ config: { ...configOf('/first'), gateway: { watch: true, workers: 2 } } })
})

afterAll(async () => {
  await gateway?.kill()
  await upstream?.close()
})

function configOf(route: string, gatewaySettings: object = {}) {
  return {
    gateway: { listen: '127.0.0.1:0', workers: 2, ...gatewaySettings },
    admin: { listen: '127.0.0.1:0', root_token: ROOT_TOKEN },
    store: { path: './data' },
    upstreams: { echo: { targets: [upstream.url] } },
    keyspaces: [{ ksid: 'ks_a', name: 'a', keys_prefix: 'a_' }],
    routes: [{ name: 'only', match: { path: route }, upstream: 'echo' }],
  }
}

function write(config: object | string): void {
  const text = typeof config === 'string' ? config : JSON.stringify(config)
  writeFileSync(`${gateway.configFile}.new`, text)
  renameSync(`${gateway.configFile}.new`, gateway.configFile)
}

const statusOf = async (path: string) => (await fetch(gateway.gatewayUrl + path)).status

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`${gateway.adminUrl}/metrics`)).text()
  return Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1])
}

describe('a reload of a running gateway', () => {
  it('follows the file, as long as it says so', async () => {
    write(configOf('/second', { watch: true }))
    await until(async () => (await statusOf('/second')) === 200)
    expect(await statusOf('/first')).toBe(404)

    write('routes: [{ upstream: nowhere }]')
    const line = await gateway.waitForLine('the new configuration is not valid; the old one goes on')
    expect(line['problems']).toEqual([expect.stringMatching(/gateway\.yaml:1:22: .*does not exist/)])
    expect(await metric('dripgate_config_last_reload_successful')).toBe(0)
    const goodAt = await metric('dripgate_config_last_reload_timestamp_seconds')
    expect(await statusOf('/second')).toBe(200)

    write(configOf('/third'))
    await until(async () => (await statusOf('/third')) === 200)
    expect(await metric('dripgate_config_last_reload_successful')).toBe(1)
    expect(await metric('dripgate_config_last_reload_timestamp_seconds')).toBeGreaterThan(goodAt)

    write(configOf('/fourth'))
    await new Promise((resolve) => setTimeout(resolve, 500))
    expect([await statusOf('/third'), await statusOf('/fourth')]).toEqual([200, 404])
  })

  it('by config.reload answers what has changed, and what waits for a restart', async () => {
    const next = configOf('/rpc', { listen: '127.0.0.1:1', max_target_bytes: '4KiB' })
    write({ ...next, upstreams: { ...next.upstreams, more: { targets: [upstream.url] } } })
    const { status, body } = await gateway.rpc('config.reload')
    expect(status).toBe(200)
    expect(body).toEqual({
      changed: ['gateway.max_target_bytes', 'routes.only', 'upstreams.more'],
      restart_needed: ['gateway.listen'],
    })
    expect(await statusOf('/rpc')).toBe(200)
    expect((await gateway.rpc('config.reload')).body).toMatchObject({ changed: [] })
  })

  it('by config.reload of a bad file answers 422 with every problem and its place', async () => {
    write(`${JSON.stringify(configOf('/bad'))}\nroutes: 3`)
    const bad = await gateway.rpc('config.reload', {})
    expect(bad.status).toBe(422)
    expect(bad.body).toMatchObject({ error: 'invalid configuration' })
    write('gateway: { listn: ":1" }\nroutes: [{ upstream: a, cost: -1 }]')
    expect((await gateway.rpc('config.reload')).body).toEqual({
      error: 'invalid configuration',
      details: [
        expect.stringMatching(/gateway\.yaml:1:12: unknown setting "listn".*did you mean "listen"\?/),
        expect.stringMatching(/gateway\.yaml:2:22: .*does not exist/),
        expect.stringMatching(/gateway\.yaml:2:31: routes\[0\]\.cost must be at least 0/),
      ],
    })
    expect(await statusOf('/rpc')).toBe(200)
    expect(await metric('dripgate_config_last_reload_successful')).toBe(0)
  })

  it('by config.reload is for admins only', async () => {
    const { body } = await gateway.rpc('serviceKeys.create', {
      keyspaces_policies: { '*': { read: true, write: true } },
    })
    const { token } = body as { token: string }
    expect((await gateway.rpc('config.reload', {}, token)).status).toBe(401)
    expect((await gateway.rpc('config.reload', {}, null)).status).toBe(401)
  })

  it('asked for many times at once happens a few times, and everybody gets an answer', async () => {
    write(configOf('/storm'))
    const before = gateway.lines.filter((line) => line['msg'] === 'configuration reloaded').length
    const answers = await Promise.all(Array.from({ length: 50 }, () => gateway.rpc('config.reload')))
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
    const after = gateway.lines.filter((line) => line['msg'] === 'configuration reloaded').length
    expect(after - before).toBeLessThan(50)
    expect(await statusOf('/storm')).toBe(200)
  })
})
