import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { findFreePort, findProgram, type Pinned, spawnPinned, untilListening } from './processes.ts'

/** The proxies that are compared, each a real process in front of the same upstream. */

export interface Candidate extends Pinned {
  readonly name: string
  readonly port: number
}

export interface Stage {
  readonly dir: string
  readonly upstreamPort: number
  readonly tokens: readonly string[]
  readonly limitedToken: string
  start(name: string, options?: StartOptions): Promise<Candidate>
  close(): Promise<void>
}

export interface StartOptions {
  readonly workers?: number
  readonly logs?: boolean
}

const PEERS = fileURLToPath(new URL('./peers/', import.meta.url))
const LAUNCHER = fileURLToPath(new URL('../../bin/dripgate.mjs', import.meta.url))
/** Candidates that are a program of a few lines around a library for Node. */
export const LIBRARIES: readonly string[] = ['http-proxy-3', 'fastify-http-proxy']
const ROOT_TOKEN = 'root_token_of_the_benchmark'
const PROXY_CORE = '0'
const LOAD_CORE = '1'
const TOKENS = 1000
const LARGE_BYTES = 1024 * 1024

/** Starts the upstream, and has one gateway mint the keys that all candidates know. */
export async function openStage(): Promise<Stage> {
  const dir = mkdtempSync(path.join(tmpdir(), 'dripgate-bench-'))
  const upstreamPort = await findFreePort()
  writeFileSync(path.join(dir, 'large'), Buffer.alloc(LARGE_BYTES, 'x'))
  const values = {
    ...{ DIR: dir, UPSTREAM_PORT: String(upstreamPort), BODY: 'x'.repeat(1024) },
    USER_LINE: process.getuid?.() === 0 ? 'user root;' : '',
  }
  const file = writeConfig('upstream-nginx.conf', dir, values)
  const upstream = spawnPinned(LOAD_CORE, [requireProgram('nginx'), '-p', dir, '-c', file], { cwd: dir })
  await untilListening(upstreamPort)
  const running = new Set<Pinned>([upstream])
  const keys = await mintKeys(dir, values)
  return {
    ...{ dir, upstreamPort, ...keys },
    start: async (name, options = {}) => {
      const candidate = await begin(name, dir, values, options)
      running.add(candidate)
      return candidate
    },
    close: async () => {
      for (const each of running) await each.stop()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

type Values = Readonly<Record<string, string>>

async function begin(name: string, dir: string, common: Values, options: StartOptions): Promise<Candidate> {
  const { workers = 1, logs = false } = options
  const port = await findFreePort()
  const values = {
    ...common,
    ...{ PORT: String(port), WORKERS: String(workers), REUSEPORT: workers > 1 ? 'reuseport' : '' },
    ...{ ACCESS_LOG: logs ? `${path.join(dir, 'nginx.log')} line buffer=64k flush=1s` : 'off' },
  }
  const command = toCommand(name, dir, values, options)
  const pinned = spawnPinned(workers === 1 ? PROXY_CORE : '0-1', command, { cwd: dir })
  await untilListening(port).catch(async (error: unknown) => {
    await pinned.stop()
    throw error
  })
  return { ...pinned, name, port }
}

/** The store in which the keys are is copied for each gateway: a store belongs to one process. */
async function mintKeys(dir: string, common: Values): Promise<{ tokens: string[]; limitedToken: string }> {
  const adminPort = await findFreePort()
  const values = { ...common, STORE: 'store', ADMIN_PORT: String(adminPort) }
  const gateway = await begin('dripgate-raw', dir, values, {})
  // The admin listener opens last.
  await untilListening(adminPort)
  const create = async (ratelimit?: object): Promise<string> => {
    const answer = await fetch(`http://127.0.0.1:${adminPort}/v1/keys.create`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${ROOT_TOKEN}` },
      body: JSON.stringify({ ksid: 'ks_bench', ...(ratelimit === undefined ? {} : { ratelimit }) }),
    })
    const key = (await answer.json()) as { token?: string }
    if (key.token === undefined) throw new Error(`no key was made: ${JSON.stringify(key)}`)
    return key.token
  }
  const tokens: string[] = []
  while (tokens.length < TOKENS)
    tokens.push(...(await Promise.all(Array.from({ length: 20 }, () => create()))))
  const limitedToken = await create({ limit: 1, refill_rate: 1, refill_interval: 3_600_000 })
  await gateway.stop()
  const keys = [...tokens.map((token, i) => [token, `k_${i}`]), [limitedToken, 'k_limited']]
  writeFileSync(
    path.join(dir, 'nginx-keys.map'),
    keys.map(([token, key]) => `"Bearer ${token}" "${key}";\n`).join(''),
  )
  writeFileSync(path.join(dir, 'haproxy-keys.map'), keys.map(([token, key]) => `${token} ${key}\n`).join(''))
  writeFileSync(path.join(dir, 'tokens.txt'), tokens.join('\n'))
  return { tokens, limitedToken }
}

function toCommand(name: string, dir: string, values: Values, options: StartOptions): readonly string[] {
  if (name.startsWith('nginx')) {
    const file = writeConfig(`${name}.conf`, dir, values)
    return [requireProgram('nginx'), '-p', dir, '-c', file]
  }
  if (name.startsWith('haproxy'))
    return [requireProgram('haproxy'), '-f', writeConfig(`${name}.cfg`, dir, values)]
  if (LIBRARIES.includes(name)) {
    const program = path.join(PEERS, `${name}.ts`)
    return [process.execPath, program, values['PORT'] ?? '', values['UPSTREAM_PORT'] ?? '']
  }
  if (values['STORE'] === undefined)
    cpSync(path.join(dir, 'store'), path.join(dir, `store-${values['PORT']}`), { recursive: true })
  const file = path.join(dir, `${name}-${values['PORT']}.yaml`)
  writeFileSync(file, JSON.stringify(toGatewayConfig(name, dir, values, options)))
  return [process.execPath, ...profileFlags(), toLauncher(name), 'serve', '--config', file]
}

/** `BASELINE=DIR npm run bench -- proxy …` measures the gateway of another checkout beside this one. */
export const BASELINE = 'dripgate-baseline'

function toLauncher(name: string): string {
  const dir = process.env['BASELINE']
  return name === BASELINE && dir !== undefined ? path.resolve(dir, 'bin/dripgate.mjs') : LAUNCHER
}

/** `PROFILE=DIR npm run bench -- proxy …` leaves CPU profiles of the gateways there. */
function profileFlags(): string[] {
  const dir = process.env['PROFILE']
  return dir === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${dir}`]
}

function toGatewayConfig(
  name: string,
  dir: string,
  values: Values,
  { workers = 1, logs = false }: StartOptions,
): object {
  const engine = name === 'dripgate-node' ? 'node' : 'raw'
  return {
    gateway: {
      listen: `127.0.0.1:${values['PORT']}`,
      workers,
      engine,
      access_log: { output: logs ? path.join(dir, `${name}.log`) : 'off' },
    },
    admin: { listen: `127.0.0.1:${values['ADMIN_PORT'] ?? 0}`, root_token: ROOT_TOKEN },
    store: { path: path.join(dir, values['STORE'] ?? `store-${values['PORT']}`) },
    upstreams: {
      target: { targets: [`http://127.0.0.1:${values['UPSTREAM_PORT']}`], max_connections: 1024 },
    },
    keyspaces: [
      {
        ...{ ksid: 'ks_bench', name: 'bench', keys_prefix: 'bench_' },
        ratelimit: { limit: 2_000_000_000, refill_rate: 2_000_000_000, refill_interval: '1s' },
      },
    ],
    routes: [{ name: 'all', keyspace: 'ks_bench', upstream: 'target', max_body: '4MiB' }],
  }
}

function writeConfig(name: string, dir: string, values: Values): string {
  const template = readFileSync(path.join(PEERS, name), 'utf8')
  const file = path.join(dir, `${values['PORT'] ?? 'upstream'}-${name}`)
  writeFileSync(
    file,
    template.replace(/\$\{([A-Z_]+)\}/g, (_, key: string) => values[key] ?? ''),
  )
  return file
}

function requireProgram(name: string): string {
  const file = findProgram(name)
  if (file === undefined) throw new Error(`${name} is not installed`)
  return file
}
