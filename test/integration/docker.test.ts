import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startEchoUpstream } from '../support/echo-upstream.ts'

/**
 * No image can be built here, so the instructions of the Dockerfile are carried out in temporary
 * directories, one for the root of each stage: COPY copies, RUN and CMD run, with the Node that runs
 * this test. What only a container has (users, volumes, ports) is read and not tried.
 */

const repository = path.resolve(import.meta.dirname, '../..')

interface Instruction {
  readonly name: string
  readonly rest: string
}

interface Stage {
  readonly root: string
  workdir: string
  readonly env: Record<string, string>
}

const instructions = parseDockerfile(readFileSync(path.join(repository, 'Dockerfile'), 'utf8'))
const ignored = readFileSync(path.join(repository, '.dockerignore'), 'utf8').split('\n')
let image: Stage
let scratch: string

function parseDockerfile(text: string): Instruction[] {
  const joined = text.replaceAll(/^#.*\n/gm, '').replaceAll(/\\\n/g, ' ')
  return joined
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [name = '', ...rest] = line.trim().split(/\s+/)
      return { name, rest: rest.join(' ') }
    })
}

function lastOf(name: string): string {
  const found = instructions.findLast((instruction) => instruction.name === name)
  if (found === undefined) throw new Error(`the Dockerfile has no ${name}`)
  return found.rest
}

/** Where a path of the stage is on this machine. */
function locate(stage: Stage, target: string): string {
  return path.join(stage.root, path.posix.resolve(stage.workdir, target))
}

function environment(stage: Stage): NodeJS.ProcessEnv {
  const own = Object.entries(stage.env).map(([name, value]) => [
    name,
    value.startsWith('/') ? locate(stage, value) : value,
  ])
  const { PATH, HOME, npm_config_cache, npm_config_registry } = process.env
  return {
    PATH: `${path.dirname(process.execPath)}:${PATH}`,
    HOME,
    ...(npm_config_cache === undefined ? {} : { npm_config_cache }),
    ...(npm_config_registry === undefined ? {} : { npm_config_registry }),
    npm_config_prefer_offline: 'true',
    ...Object.fromEntries(own),
  }
}

function run(stage: Stage, command: string): void {
  const options = { cwd: locate(stage, '.'), env: environment(stage), encoding: 'utf8' } as const
  const { status, stdout, stderr } = spawnSync('sh', ['-c', command], options)
  if (status !== 0) throw new Error(`RUN ${command}: ended with ${status}\n${stdout}\n${stderr}`)
}

function copy(stage: Stage, stages: ReadonlyMap<string, Stage>, rest: string): void {
  const words = rest.split(' ')
  const from = words.find((word) => word.startsWith('--from='))?.slice('--from='.length)
  const paths = words.filter((word) => !word.startsWith('--'))
  const target = paths.pop() ?? ''
  for (const source of paths) {
    const origin = from === undefined ? undefined : stages.get(from)
    if (from !== undefined && origin === undefined)
      throw new Error(`COPY from ${from}: there is no such stage`)
    if (origin === undefined && !ignored.includes(`!${source}`))
      throw new Error(`.dockerignore hides ${source}`)
    const file = origin === undefined ? path.join(repository, source) : locate(origin, source)
    const into = target.endsWith('/') ? path.join(target, path.basename(source)) : target
    cpSync(file, locate(stage, into), { recursive: true, verbatimSymlinks: true })
  }
}

function buildImage(): Stage {
  const stages = new Map<string, Stage>()
  let stage: Stage = { root: scratch, workdir: '/', env: {} }
  for (const { name, rest } of instructions) {
    if (name === 'FROM') {
      stage = { root: path.join(scratch, `stage-${stages.size}`), workdir: '/', env: {} }
      stages.set(rest.split(' as ').at(-1)?.split(' AS ').at(-1) ?? '', stage)
    }
    if (name === 'WORKDIR') {
      stage.workdir = path.posix.resolve(stage.workdir, rest)
      mkdirSync(locate(stage, '.'), { recursive: true })
    }
    if (name === 'ENV') {
      for (const [, key = '', value = ''] of rest.matchAll(/(\w+)=(\S+)/g)) stage.env[key] = value
    }
    if (name === 'COPY') copy(stage, stages, rest)
    if (name === 'RUN') run(stage, rest)
  }
  return stage
}

async function findFreePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' && address !== null ? address.port : 0
}

function start(command: readonly string[], env: Record<string, string>): ChildProcess {
  const [program = '', ...args] = command
  const stdio = ['ignore', 'pipe', 'inherit'] as const
  return spawn(program, args, {
    cwd: locate(image, '.'),
    env: { ...environment(image), ...env },
    stdio: [...stdio],
  })
}

async function waitForReady(child: ChildProcess): Promise<{ gateway: string; admin: string }> {
  if (child.stdout === null) throw new Error('standard output is not a pipe')
  const said: string[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    said.push(line)
    const parsed = JSON.parse(line)
    if (parsed.msg === 'ready') return parsed
  }
  throw new Error(`ended before it was ready:\n${said.join('\n')}`)
}

beforeAll(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'dripgate-image-'))
  image = buildImage()
}, 300_000)

afterAll(() => {
  rmSync(scratch, { recursive: true, force: true })
})

describe('the image', () => {
  it('holds what the server needs, and neither compiler nor sources nor a second Node', () => {
    for (const file of ['dist/main.js', 'dist/worker.js', 'dist/storage-worker.js', 'config/gateway.yaml']) {
      expect(existsSync(locate(image, file)), file).toBe(true)
    }
    for (const file of [
      'src',
      'test',
      'node_modules/typescript',
      'node_modules/vitest',
      `node_modules/node-linux-${process.arch}`,
    ]) {
      expect(existsSync(locate(image, file)), file).toBe(false)
    }
  })

  it('serves, is healthy, and drains when it is stopped, without npm in between', async () => {
    await using upstream = await startEchoUpstream()
    const config = path.join(scratch, 'gateway.yaml')
    writeFileSync(
      config,
      JSON.stringify({
        gateway: { listen: '127.0.0.1:0' },
        admin: { listen: `127.0.0.1:${await findFreePort()}` },
        store: { path: './data' },
        upstreams: { echo: { targets: [upstream.url] } },
        routes: [{ name: 'all', match: { path: '/' }, upstream: 'echo' }],
      }),
    )
    const command = [...JSON.parse(lastOf('ENTRYPOINT')), ...JSON.parse(lastOf('CMD').replace(/.*?CMD /, ''))]
    expect(command).not.toContain('npm')
    const child = start(command, { DRIPGATE_CONFIG: config })
    try {
      const ended = new Promise((resolve) => child.on('exit', (code, signal) => resolve({ code, signal })))
      const ready = await waitForReady(child)
      expect(await (await fetch(`${ready.gateway}/hello`)).json()).toMatchObject({ target: '/hello' })

      const health = lastOf('HEALTHCHECK').replace(/^.*?CMD /, '')
      const checked = start(JSON.parse(health), { DRIPGATE_CONFIG: config })
      expect(await new Promise((resolve) => checked.on('exit', resolve))).toBe(0)
      expect(existsSync(locate(image, 'data'))).toBe(true)

      child.kill(lastOf('STOPSIGNAL') as NodeJS.Signals)
      expect(await ended).toEqual({ code: 0, signal: null })
      const afterwards = start(JSON.parse(health), { DRIPGATE_CONFIG: config })
      expect(await new Promise((resolve) => afterwards.on('exit', resolve))).toBe(1)
    } finally {
      child.kill('SIGKILL')
    }
  })

  it('accepts the configuration that it brings along', async () => {
    const child = start([...JSON.parse(lastOf('ENTRYPOINT')), 'check'], {})
    expect(await new Promise((resolve) => child.on('exit', resolve))).toBe(0)
  })
})

it('runs without root, keeps its data on a volume and names its ports', () => {
  const finalStage = instructions.slice(instructions.findLastIndex(({ name }) => name === 'FROM'))
  const of = (name: string): string[] =>
    finalStage.filter((found) => found.name === name).map(({ rest }) => rest)
  expect(of('USER')).toEqual(['node'])
  expect(of('VOLUME')).toEqual(['/app/data'])
  expect(of('EXPOSE')).toEqual(['8080 7131'])
  const beforeUser = finalStage.slice(
    0,
    finalStage.findIndex(({ name }) => name === 'USER'),
  )
  expect(beforeUser.filter(({ name }) => name === 'RUN')).toEqual([])
})
