import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { startEchoUpstream } from '../support/echo-upstream.ts'
import { startGateway } from '../support/gateway.ts'
import { startInProcess, until } from '../support/in-process.ts'
import { openLoad } from '../support/load.ts'

/** How often the process is killed; `DRIPGATE_KILLS=100 npm test -- crash` for the long run. */
const KILLS = Number(process.env['DRIPGATE_KILLS'] ?? 12)
/** More than a flush writes in one go. */
const MANY_KEYS = 1000

const config = (targets: string[], workers = 1) => ({
  gateway: { listen: '127.0.0.1:0', workers },
  upstreams: { echo: { targets } },
  keyspaces: [{ ksid: 'ks_crash', name: 'crash', keys_prefix: 'cr_' }],
  routes: [{ name: 'all', keyspace: 'ks_crash', upstream: 'echo' }],
})

describe('kill -9', () => {
  it(`${KILLS} times while keys are created: every acknowledged key is there after the restart`, async () => {
    const dir = mkdtempSync(path.join(tmpdir(), 'dripgate-test-'))
    const acknowledged: { kid: string; token: string }[] = []
    try {
      for (let kill = 0; kill < KILLS; kill++) {
        const gateway = await startGateway({ config: config(['http://127.0.0.1:9']), dir })
        for (const { kid, token } of acknowledged.slice(-200)) {
          const check = await gateway.rpc('keys.get', { ksid: 'ks_crash', token })
          expect(check.body).toMatchObject({ kid })
        }
        const creating = Array.from({ length: 8 }, async () => {
          for (;;) {
            const { status, body: key } = await gateway.rpc('keys.create', { ksid: 'ks_crash' })
            if (status === 200) acknowledged.push(key as { kid: string; token: string })
          }
        })
        const settled = Promise.allSettled(creating)
        const enough = acknowledged.length + 20 + Math.floor(Math.random() * 40)
        while (acknowledged.length < enough) await new Promise((resolve) => setTimeout(resolve, 1))
        await gateway.kill()
        await settled
      }
      const gateway = await startGateway({ config: config(['http://127.0.0.1:9']), dir })
      const lost: string[] = []
      for (const { kid } of acknowledged) {
        if ((await gateway.rpc('keys.get', { ksid: 'ks_crash', kid })).status !== 200) lost.push(kid)
      }
      expect(lost).toEqual([])
      await gateway.stop()
    } finally {
      rmSync(dir, { recursive: true, force: true })
    }
  }, 300_000)

  it('has what many keys spent on the disk soon after, also in pieces', async () => {
    const dir = mkdtempSync(path.join(tmpdir(), 'dripgate-test-'))
    const upstream = await startEchoUpstream()
    try {
      const first = await startGateway({ config: config([upstream.url]), dir })
      const ratelimit = { limit: 1, refill_rate: 0, refill_interval: 0 }
      const tokens: string[] = []
      while (tokens.length < MANY_KEYS) {
        const create = () => first.rpc('keys.create', { ksid: 'ks_crash', ratelimit })
        const answers = await Promise.all(Array.from({ length: 50 }, create))
        tokens.push(...answers.map(({ body }) => (body as { token: string }).token))
      }
      const spend = async (url: string): Promise<number[]> => {
        await using load = openLoad(url, 10)
        const answers = await Promise.all(tokens.map((token) => load.send({ 'x-api-key': token })))
        return answers.map(({ status }) => status)
      }
      expect(new Set(await spend(first.gatewayUrl))).toEqual(new Set([200]))
      await new Promise((resolve) => setTimeout(resolve, 1000))
      await first.kill()
      const second = await startGateway({ config: config([upstream.url]), dir })
      expect(new Set(await spend(second.gatewayUrl))).toEqual(new Set([429]))
      await second.stop()
    } finally {
      await upstream.close()
      rmSync(dir, { recursive: true, force: true })
    }
  }, 60_000)

  it('forgets at most the spending since the last completed flush, and no key', async () => {
    const dir = mkdtempSync(path.join(tmpdir(), 'dripgate-test-'))
    const upstream = await startEchoUpstream()
    try {
      const first = await startGateway({ config: config([upstream.url]), dir })
      const ratelimit = { limit: 100, refill_rate: 0, refill_interval: 0 }
      const { body } = await first.rpc('keys.create', { ksid: 'ks_crash', ratelimit })
      const key = body as { kid: string; token: string }
      const headers = { 'x-api-key': key.token }
      {
        await using load = openLoad(first.gatewayUrl, 10)
        expect((await load.blast(60, headers)).get(200)).toBe(60)
      }
      // Two flush intervals: what was spent above is on disk.
      await new Promise((resolve) => setTimeout(resolve, 600))
      await first.kill()
      const second = await startGateway({ config: config([upstream.url]), dir })
      await using load = openLoad(second.gatewayUrl, 10)
      expect((await load.blast(100, headers)).get(200)).toBe(40)
      await second.stop()
    } finally {
      await upstream.close()
      rmSync(dir, { recursive: true, force: true })
    }
  }, 60_000)
})

describe('a data-plane thread that dies', () => {
  it('is logged, counted and replaced, while the other serves on and nothing is admitted twice', async () => {
    await using upstream = await startEchoUpstream()
    await using running = await startInProcess(config([upstream.url], 2))
    const { gateway, logger } = running
    const limit = 2_000
    const { body } = await running.rpc('keys.create', {
      ksid: 'ks_crash',
      ratelimit: { limit, refill_rate: 0, refill_interval: 0 },
    })
    const { token } = body as { token: string }
    await using load = openLoad(gateway.gatewayUrl, 50)
    let [admitted, denied, broken] = [0, 0, 0]
    const runners = Array.from({ length: 50 }, async () => {
      while (denied < 500) {
        await load.send({ authorization: `Bearer ${token}` }).then(
          ({ status }) => (status === 200 ? admitted++ : denied++),
          () => broken++,
        )
      }
    })
    while (admitted < 300) await new Promise((resolve) => setTimeout(resolve, 1))
    await gateway.threads.workers()[0]?.terminate()
    await Promise.all(runners)
    // What broke off may have been admitted, once, without an answer.
    expect(admitted).toBeLessThanOrEqual(limit)
    expect(admitted + broken).toBeGreaterThanOrEqual(limit)
    expect(broken).toBeLessThanOrEqual(50)
    expect(upstream.received()).toBeLessThanOrEqual(limit)
    await until(() => gateway.threads.count() === 2)
    expect(logger.lines).toContainEqual(
      expect.objectContaining({
        level: 'error',
        message: 'a data-plane thread ended and is started again',
      }),
    )
    const metrics = await (await fetch(`${gateway.adminUrl}/metrics`)).text()
    expect(metrics).toMatch(/^dripgate_thread_restarts_total 1$/m)
  }, 60_000)
})
