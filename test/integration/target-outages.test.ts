import { type ChildProcess, spawn } from 'node:child_process'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { type FickleTarget, startFickleTarget } from '../support/fickle-target.ts'
import { type RunningGateway, startGateway } from '../support/gateway.ts'
import { until } from '../support/in-process.ts'
import { openLoad } from '../support/load.ts'

/*
 * Three targets under load, two of them processes of their own: one is killed and comes back, one
 * is stopped and goes on, one talks garbage for a while. No GET fails, no POST arrives twice.
 */

const PROGRAM = path.resolve(import.meta.dirname, '../support/target-process.ts')
const INTERVAL_MS = 500
/** For a machine that is busy with other tests. */
const SLACK_MS = 2000

interface TargetProcess {
  readonly port: number
  readonly child: ChildProcess
  /** `METHOD ID` of all requests that arrived. */
  readonly seen: string[]
}

const children: ChildProcess[] = []
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

async function startTargetProcess(port = 0): Promise<TargetProcess> {
  const child = spawn(process.execPath, [PROGRAM, String(port)], { stdio: ['ignore', 'pipe', 'inherit'] })
  children.push(child)
  const seen: string[] = []
  const listening = Promise.withResolvers<number>()
  let rest = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line.startsWith('port ')) listening.resolve(Number(line.slice('port '.length)))
      else seen.push(line)
    }
  })
  return { port: await listening.promise, child, seen }
}

/** GETs and POSTs by turns over 16 connections, each with an id of its own, until it is stopped. */
function startTraffic(gateway: RunningGateway) {
  const load = openLoad(gateway.gatewayUrl, 16)
  const failedGets: string[] = []
  const posts = new Map<string, number>()
  let gets = 0
  let isStopping = false
  let id = 0

  async function run(): Promise<void> {
    while (!isStopping) {
      const own = String(++id)
      const method = id % 2 === 0 ? 'POST' : 'GET'
      const { status } = await load
        .send({ 'x-id': own }, { method, ...(method === 'POST' ? { body: 'x' } : {}) })
        .catch(() => ({ status: 0 }))
      if (method === 'POST') posts.set(own, status)
      else if (status !== 200) failedGets.push(`${own}: ${status}`)
      else gets++
      await sleep(5)
    }
  }

  const runners = Array.from({ length: 16 }, run)
  return {
    failedGets,
    posts,
    gets: () => gets,
    async stop() {
      isStopping = true
      await Promise.all(runners)
      await load[Symbol.asyncDispose]()
    },
  }
}

async function waitForTarget(gateway: RunningGateway, position: number, up: 0 | 1): Promise<number> {
  const startedMs = performance.now()
  const line = `dripgate_upstream_target_up{upstream="main",target="${position}"} ${up}`
  await until(async () => {
    const text = await (await fetch(`${gateway.adminUrl}/metrics`)).text()
    return text.split('\n').includes(line)
  }, 15_000)
  return performance.now() - startedMs
}

describe.each(['raw', 'node'])('%s engine, three targets under load', (engine) => {
  it('loses no GET and repeats no POST while one dies, one hangs and one talks garbage', {
    timeout: 60_000,
  }, async () => {
    const killed = await startTargetProcess()
    const stopped = await startTargetProcess()
    const garbling: FickleTarget = await startFickleTarget('fickle')
    const ports = [killed.port, stopped.port, garbling.port]
    await using gateway = await startGateway({
      config: {
        gateway: { listen: '127.0.0.1:0', engine, workers: 2 },
        upstreams: {
          main: {
            targets: ports.map((port) => `http://127.0.0.1:${port}`),
            timeouts: { connect: '500ms', response: '1s' },
            health_check: { path: '/health', interval: INTERVAL_MS, timeout: '300ms' },
          },
        },
        routes: [{ name: 'all', upstream: 'main' }],
      },
    })
    const traffic = startTraffic(gateway)
    await until(() => traffic.gets() > 300)

    killed.child.kill('SIGKILL')
    await waitForTarget(gateway, 0, 0)
    await sleep(500)
    const reborn = await startTargetProcess(killed.port)
    expect(await waitForTarget(gateway, 0, 1)).toBeLessThan(2 * INTERVAL_MS + SLACK_MS)
    await until(() => reborn.seen.length > 10)

    stopped.child.kill('SIGSTOP')
    await waitForTarget(gateway, 1, 0)
    await sleep(1500)
    const before = stopped.seen.length
    stopped.child.kill('SIGCONT')
    expect(await waitForTarget(gateway, 1, 1)).toBeLessThan(2 * INTERVAL_MS + SLACK_MS)
    await until(() => stopped.seen.length > before + 100)

    garbling.mood = 'garbage'
    await waitForTarget(gateway, 2, 0)
    await sleep(500)
    garbling.mood = 'fine'
    expect(await waitForTarget(gateway, 2, 1)).toBeLessThan(2 * INTERVAL_MS + SLACK_MS)

    await traffic.stop()
    expect(traffic.failedGets).toEqual([])
    expect([...traffic.posts.values()].filter((status) => ![200, 502, 504].includes(status))).toEqual([])
    const arrived = [killed, reborn, stopped]
      .flatMap(({ seen }) => seen)
      .filter((line) => line.startsWith('POST '))
      .map((line) => line.slice('POST '.length))
    const postsOfGarbling = garbling.ids.filter((id) => traffic.posts.has(id))
    const all = [...arrived, ...postsOfGarbling]
    expect(all.length).toBeGreaterThan(traffic.posts.size / 2)
    expect(new Set(all).size).toBe(all.length)
    await garbling.close()
  })
})
