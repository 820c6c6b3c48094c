import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { findProgram } from '../bench/processes.ts'
import { startEchoUpstream } from '../support/echo-upstream.ts'
import { type RunningGateway, startGateway } from '../support/gateway.ts'
import { runOpenLoad } from '../support/open-load.ts'
import { describeRedis, findFreePort, startRedis, until } from '../support/redis.ts'

/**
 * Restarts while requests come at a fixed rate, none of which is ever repeated.
 *
 *   DRIPGATE_ROLLS=5
 */
const ROLLS = Number(process.env['DRIPGATE_ROLLS'] ?? 1)
const PER_SECOND = 200
const BUCKET = 10_000_000
const HAPROXY = findProgram('haproxy')

let undo: (() => unknown)[] = []

afterEach(async () => {
  for (const step of undo.reverse()) await step()
  undo = []
})

interface Ports {
  readonly gateway: number
  readonly admin: number
}

async function pickPorts(): Promise<Ports> {
  return { gateway: await findFreePort(), admin: await findFreePort() }
}

function configOf(upstream: string, ports: Ports, store: object) {
  return {
    gateway: { listen: `127.0.0.1:${ports.gateway}`, workers: 2, shutdown_delay: '1s' },
    admin: { listen: `127.0.0.1:${ports.admin}` },
    store,
    upstreams: { echo: { targets: [upstream] } },
    keyspaces: [{ ksid: 'ks_a', name: 'a', keys_prefix: 'a_', ratelimit: { limit: BUCKET }, leases: 'off' }],
    routes: [{ name: 'keyed', keyspace: 'ks_a', upstream: 'echo' }],
  }
}

async function createKey(gateway: RunningGateway): Promise<{ token: string; kid: string }> {
  const { body } = await gateway.rpc('keys.create', { ksid: 'ks_a' })
  return body as { token: string; kid: string }
}

async function remainingOf(gateway: RunningGateway, kid: string): Promise<number> {
  const { body } = await gateway.rpc('keys.get', { ksid: 'ks_a', kid })
  return (body as { ratelimit: { state: { remaining: number } } }).ratelimit.state.remaining
}

/** The gateway that runs under these ports; `restart` stops it cleanly and starts it again. */
async function startRestartable(config: object) {
  const dir = mkdtempSync(path.join(tmpdir(), 'dripgate-test-'))
  const start = () => startGateway({ config: config as Record<string, unknown>, dir })
  let gateway = await start()
  undo.push(async () => {
    await gateway.kill()
    rmSync(dir, { recursive: true })
  })
  return {
    current: () => gateway,
    restart: async () => {
      await gateway.stop()
      gateway = await start()
    },
  }
}

/** A balancer that repeats nothing and asks `/readyz` four times in a second. */
async function startHaproxy(nodes: readonly Ports[]) {
  const dir = mkdtempSync(path.join(tmpdir(), 'dripgate-test-'))
  const [port, stats] = [await findFreePort(), await findFreePort()]
  const servers = nodes.map(
    ({ gateway, admin }, index) => `server node${index} 127.0.0.1:${gateway} check port ${admin}`,
  )
  const text = [
    ...['global', 'maxconn 2000', 'defaults', 'mode http', 'retries 0'],
    ...['timeout connect 5s', 'timeout client 30s', 'timeout server 30s', 'timeout check 5s'],
    ...['frontend clients', `bind 127.0.0.1:${port}`, 'default_backend nodes'],
    ...['backend nodes', 'balance roundrobin', 'option httpchk GET /readyz'],
    ...['default-server inter 250ms fall 1 rise 1', ...servers],
    ...['listen stats', `bind 127.0.0.1:${stats}`, 'stats enable', 'stats uri /'],
  ]
  writeFileSync(path.join(dir, 'haproxy.cfg'), `${text.join('\n')}\n`)
  const child: ChildProcess = spawn(HAPROXY ?? '', ['-db', '-f', 'haproxy.cfg'], {
    cwd: dir,
    stdio: 'ignore',
  })
  undo.push(async () => {
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    rmSync(dir, { recursive: true })
  })
  const countUp = async (): Promise<number> => {
    const csv = await fetch(`http://127.0.0.1:${stats}/;csv`).then(
      (answer) => answer.text(),
      () => '',
    )
    return csv.split('\n').filter((line) => line.startsWith('nodes,node') && line.includes(',UP,')).length
  }
  const isWhole = async () => (await countUp()) === nodes.length
  const untilWhole = () => until(isWhole, 60_000)
  await untilWhole()
  return { origin: `http://127.0.0.1:${port}`, untilWhole }
}

describeRedis('rolling restarts behind a balancer', () => {
  it.skipIf(HAPROXY === undefined)(
    'lose no request and count each one once',
    async () => {
      const [redis, upstream] = await Promise.all([startRedis(), startEchoUpstream()])
      undo.push(redis.close, upstream.close)
      const ports = [await pickPorts(), await pickPorts()]
      const store = { redis: { url: redis.url, timeout: '5s' } }
      const nodes = await Promise.all(
        ports.map((own) => startRestartable(configOf(upstream.url, own, store))),
      )
      const [first] = nodes
      if (first === undefined) throw new Error('no node')
      const { token, kid } = await createKey(first.current())
      const balancer = await startHaproxy(ports)
      const rolled = (async () => {
        for (let roll = 0; roll < ROLLS; roll++) {
          for (const node of nodes) {
            await node.restart()
            await balancer.untilWhole()
          }
        }
      })()
      const result = await runOpenLoad({
        origin: balancer.origin,
        headers: { authorization: `Bearer ${token}` },
        perSecond: PER_SECOND,
        until: rolled,
      })
      await rolled
      console.log(`${ROLLS} rolling restarts: ${JSON.stringify(result)}`)
      expect(result).toMatchObject({ succeeded: result.sent, failures: {} })
      expect(result.sent).toBeGreaterThan(PER_SECOND)
      expect(await remainingOf(first.current(), kid)).toBe(BUCKET - result.sent)
    },
    120_000 + ROLLS * 60_000,
  )
})

describe('a restart on the embedded store', () => {
  it('refuses connections for a moment, breaks off no request and forgets nothing', async () => {
    const upstream = await startEchoUpstream()
    undo.push(upstream.close)
    const ports = await pickPorts()
    const node = await startRestartable(configOf(upstream.url, ports, { path: './data' }))
    const { token, kid } = await createKey(node.current())
    const written: string[] = []
    let isOver = false
    // Keys that are acknowledged up to the last moment.
    const writing = (async () => {
      while (!isOver) {
        await createKey(node.current()).then(
          (key) => written.push(key.kid),
          () => {},
        )
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
    })()
    const restarted = (async () => {
      await new Promise((resolve) => setTimeout(resolve, 1_000))
      await node.restart()
      await new Promise((resolve) => setTimeout(resolve, 1_000))
    })()
    const result = await runOpenLoad({
      origin: `http://127.0.0.1:${ports.gateway}`,
      headers: { authorization: `Bearer ${token}` },
      perSecond: PER_SECOND,
      until: restarted,
    })
    await restarted
    isOver = true
    await writing
    console.log(`a restart: ${JSON.stringify(result)}, ${written.length} keys written meanwhile`)
    // A reset is a connection that waited in the kernel's queue when the listener was closed.
    const { ECONNREFUSED = 0, ECONNRESET = 0, ...others } = result.failures
    expect(others).toEqual({})
    expect(ECONNREFUSED).toBeGreaterThan(0)
    expect(ECONNRESET).toBeLessThanOrEqual(3)
    expect(result.succeeded).toBe(result.sent - ECONNREFUSED - ECONNRESET)
    expect(await remainingOf(node.current(), kid)).toBe(BUCKET - result.succeeded)
    expect(written.length).toBeGreaterThan(1)
    for (const acknowledged of written) {
      const { status } = await node.current().rpc('keys.get', { ksid: 'ks_a', kid: acknowledged })
      expect(status).toBe(200)
    }
  }, 90_000)
})

describe('a stop under new connections', () => {
  it('answers those that it has accepted and refuses the others, but for a few that are reset', async () => {
    const upstream = await startEchoUpstream()
    undo.push(upstream.close)
    const ports = await pickPorts()
    const node = await startRestartable(configOf(upstream.url, ports, { path: './data' }))
    const { token } = await createKey(node.current())
    const stopped = (async () => {
      await new Promise((resolve) => setTimeout(resolve, 500))
      await node.current().stop()
    })()
    const result = await runOpenLoad({
      origin: `http://127.0.0.1:${ports.gateway}`,
      headers: { authorization: `Bearer ${token}` },
      perSecond: 500,
      until: stopped,
      connections: 1_000,
      keepAlive: false,
    })
    await stopped
    const { ECONNREFUSED = 0, ECONNRESET = 0, ...others } = result.failures
    console.log(`a stop: ${JSON.stringify(result)}`)
    expect(others).toEqual({})
    // Those that came in the last moment, between the last look at the queue and its end.
    expect(ECONNRESET).toBeLessThan(50)
    expect(result.succeeded + ECONNREFUSED + ECONNRESET).toBe(result.sent)
    expect(result.succeeded).toBeGreaterThan(500)
  }, 60_000)
})
