import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Redis } from 'ioredis'
import { describe } from 'vitest'
import { type Binary, findBinary } from './debian-packages.ts'

/**
 * Real Redis servers for tests: `REDIS_SERVER_BIN`, else a server on PATH (Redis, Valkey, KeyDB),
 * else Debian's package unpacked into `node_modules/.cache`, which needs no root rights. Where none
 * can be had the tests are skipped with one line, and fail under `CI`.
 */

const READY_WITHIN_MS = 10_000
const PACKAGES = ['redis-server', 'redis-tools', 'redis-sentinel', 'liblzf1', 'libjemalloc2', 'libatomic1']

function findRedis(): Binary | undefined {
  const { REDIS_SERVER_BIN } = process.env
  return findBinary({
    names: [...(REDIS_SERVER_BIN ? [REDIS_SERVER_BIN] : []), 'redis-server', 'valkey-server', 'keydb-server'],
    packages: PACKAGES,
    cacheName: 'redis',
    file: 'usr/bin/redis-server',
  })
}

/** `describe`, where there is a Redis; else skipped, or failed under `CI`. */
export const describeRedis: typeof describe | typeof describe.skip = pickDescribe()

function pickDescribe() {
  if (findRedis() !== undefined) return describe
  if (process.env['CI']) throw new Error('no Redis can be had, and CI must not pass without its tests')
  process.stderr.write('no Redis can be had: its tests are skipped\n')
  return describe.skip
}

export interface RedisServer extends AsyncDisposable {
  readonly port: number
  readonly url: string
  readonly dir: string
  readonly pid: () => number
  /** A client of the test itself. */
  readonly admin: Redis
  signal(signal: NodeJS.Signals): void
  /** SIGKILL. */
  kill(): Promise<void>
  /** On the same port and folder. */
  start(): Promise<void>
  close(): Promise<void>
}

export async function startRedis(args: readonly string[] = []): Promise<RedisServer> {
  const binary = findRedis()
  if (binary === undefined) throw new Error('there is no Redis')
  const port = await findFreePort()
  const dir = mkdtempSync(path.join(tmpdir(), 'dripgate-redis-'))
  const given = [
    '--port',
    String(port),
    '--dir',
    dir,
    '--bind',
    '127.0.0.1',
    '--save',
    '',
    '--appendonly',
    'no',
  ]
  let child = await launch(binary, [...given, ...args])
  const admin = new Redis({
    host: '127.0.0.1',
    port,
    protocol: 2,
    retryStrategy: () => 50,
    maxRetriesPerRequest: null,
  })
  admin.on('error', () => {})

  async function kill(): Promise<void> {
    await end(child)
  }
  async function close(): Promise<void> {
    admin.disconnect()
    await kill()
    rmSync(dir, { recursive: true, force: true })
  }
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    dir,
    pid: () => child.pid ?? -1,
    admin,
    signal: (signal) => void child.kill(signal),
    kill,
    async start() {
      child = await launch(binary, [...given, ...args])
    },
    close,
    [Symbol.asyncDispose]: close,
  }
}

export interface RedisCluster extends AsyncDisposable {
  readonly urls: readonly string[]
  /** Masters first, then one replica of each, if there are any. */
  readonly servers: readonly RedisServer[]
  close(): Promise<void>
}

const SLOTS = 16_384

/** Three masters, each with a replica where asked for. */
export async function startCluster(options: { readonly replicas?: boolean } = {}): Promise<RedisCluster> {
  const count = options.replicas === true ? 6 : 3
  const servers: RedisServer[] = []
  const close = async () => void (await Promise.all(servers.map((server) => server.close())))
  try {
    for (let index = 0; index < count; index++) {
      const busPort = await findFreePort()
      servers.push(
        await startRedis([
          '--cluster-enabled',
          'yes',
          '--cluster-port',
          String(busPort),
          '--cluster-node-timeout',
          '1000',
          '--cluster-replica-validity-factor',
          '0',
        ]),
      )
    }
    const [first] = servers
    for (const [index, { admin }] of servers.entries()) {
      await admin.call('CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1))
      if (index < 3) {
        const from = Math.floor((SLOTS * index) / 3)
        const to = Math.floor((SLOTS * (index + 1)) / 3) - 1
        await admin.call('CLUSTER', 'ADDSLOTSRANGE', String(from), String(to))
      }
      if (index > 0) {
        const busPort = await first?.admin.call('CONFIG', 'GET', 'cluster-port')
        const bus = Array.isArray(busPort) ? String(busPort[1]) : ''
        await admin.call('CLUSTER', 'MEET', '127.0.0.1', String(first?.port), bus)
      }
    }
    await Promise.all(
      servers.map(({ admin }) =>
        until(async () => (await info(admin)).includes(`cluster_known_nodes:${count}`)),
      ),
    )
    for (const [index, { admin }] of servers.slice(3).entries()) {
      const id = String(await servers[index]?.admin.call('CLUSTER', 'MYID'))
      await until(async () => String(await admin.call('CLUSTER', 'NODES')).includes(id))
      await admin.call('CLUSTER', 'REPLICATE', id)
    }
    await Promise.all(
      servers.map(({ admin }) => until(async () => (await info(admin)).includes('cluster_state:ok'))),
    )
    for (const { admin } of servers.slice(3)) {
      await until(async () => String(await admin.info('replication')).includes('master_link_status:up'))
    }
  } catch (error) {
    await close()
    throw error
  }
  return { urls: servers.map(({ url }) => url), servers, close, [Symbol.asyncDispose]: close }
}

async function info(admin: Redis): Promise<string> {
  return String(await admin.call('CLUSTER', 'INFO'))
}

export interface RedisSentinel extends AsyncDisposable {
  readonly urls: readonly string[]
  readonly name: string
  readonly master: RedisServer
  readonly replica: RedisServer
  close(): Promise<void>
}

/** A master, a replica, and three Sentinels that take the master for dead after half a second. */
export async function startSentinel(): Promise<RedisSentinel> {
  const binary = findRedis()
  if (binary === undefined) throw new Error('there is no Redis')
  const name = 'dripgate-master'
  const master = await startRedis()
  const replica = await startRedis(['--replicaof', '127.0.0.1', String(master.port)])
  const dir = mkdtempSync(path.join(tmpdir(), 'dripgate-sentinel-'))
  const sentinels: { child: ChildProcess; port: number; admin: Redis }[] = []
  const close = async () => {
    for (const { admin } of sentinels) admin.disconnect()
    await Promise.all([...sentinels.map(({ child }) => end(child)), master.close(), replica.close()])
    rmSync(dir, { recursive: true, force: true })
  }
  try {
    for (let index = 0; index < 3; index++) {
      const port = await findFreePort()
      const file = path.join(dir, `sentinel-${index}.conf`)
      writeFileSync(
        file,
        [
          `port ${port}`,
          'bind 127.0.0.1',
          `dir ${dir}`,
          `sentinel monitor ${name} 127.0.0.1 ${master.port} 2`,
          `sentinel down-after-milliseconds ${name} 500`,
          `sentinel failover-timeout ${name} 3000`,
          `sentinel parallel-syncs ${name} 1`,
        ].join('\n'),
      )
      const child = await launch(binary, [file, '--sentinel'], /\+monitor/)
      const admin = new Redis({ host: '127.0.0.1', port, protocol: 2, retryStrategy: () => 50 })
      admin.on('error', () => {})
      sentinels.push({ child, port, admin })
    }
    for (const { admin } of sentinels) {
      await until(async () => {
        const state = (await admin.call('SENTINEL', 'MASTER', name)) as string[]
        const field = (label: string) => state[state.indexOf(label) + 1]
        return (
          field('num-slaves') === '1' && field('num-other-sentinels') === '2' && field('flags') === 'master'
        )
      })
    }
    await until(async () => String(await replica.admin.info('replication')).includes('master_link_status:up'))
  } catch (error) {
    await close()
    throw error
  }
  const urls = sentinels.map(({ port }) => `redis://127.0.0.1:${port}`)
  return { urls, name, master, replica, close, [Symbol.asyncDispose]: close }
}

async function launch(
  { file, env }: Binary,
  args: readonly string[],
  ready = /Ready to accept connections/,
): Promise<ChildProcess> {
  const child = spawn(file, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  endWithTests(child)
  let output = ''
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`Redis is not ready:\n${output}`)), READY_WITHIN_MS)
    const read = (chunk: Buffer) => {
      output += String(chunk)
      if (!ready.test(output)) return
      clearTimeout(timer)
      resolve()
    }
    child.stdout?.on('data', read)
    child.stderr?.on('data', read)
    child.once('exit', () => reject(new Error(`Redis ended:\n${output}`)))
  })
  // Read on, or the pipe fills up; but keep nothing.
  child.stdout?.removeAllListeners('data').resume()
  child.stderr?.removeAllListeners('data').resume()
  return child
}

const running = new Set<ChildProcess>()

function endWithTests(child: ChildProcess): void {
  if (running.size === 0) {
    process.once('exit', () => {
      for (const each of running) each.kill('SIGKILL')
    })
  }
  running.add(child)
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
}

/** Below 30,000, out of the range from which the system takes ports for outgoing connections. */
export async function findFreePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000)
    const server = createServer()
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false))
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
    })
    if (isFree) return port
  }
}

export async function until(done: () => boolean | Promise<boolean>, withinMs = 20_000): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!(await done())) {
    if (performance.now() > deadline) throw new Error(`this did not come true in ${withinMs} ms: ${done}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
