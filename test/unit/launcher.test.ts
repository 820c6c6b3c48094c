import { type ChildProcess, spawn } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'

const repository = path.resolve(import.meta.dirname, '../..')

/** Stands in for src/main.ts: says what it is, and how its life went. */
const MAIN = `
const say = (line: string): void => console.log(line)
for (const signal of ['SIGHUP', 'SIGUSR2', 'SIGINT'] as const) process.on(signal, () => say(signal))
process.on('disconnect', () => { say('disconnect'); process.exit(0) })
say(JSON.stringify({ version: process.version, pid: process.pid, args: process.argv.slice(2), launcher: process.env['DRIPGATE_LAUNCHER'] }))
if (process.argv[2] === 'exit') process.exit(Number(process.argv[3]))
setInterval(() => {}, 1000)
`

let project: string
const started: ChildProcess[] = []

beforeAll(() => {
  project = mkdtempSync(path.join(tmpdir(), 'dripgate-launcher-'))
  cpSync(path.join(repository, 'bin'), path.join(project, 'bin'), { recursive: true })
  mkdirSync(path.join(project, 'src'))
  writeFileSync(path.join(project, 'package.json'), '{"type":"module"}')
  writeFileSync(path.join(project, 'src/main.ts'), MAIN)
  symlinkSync(path.join(repository, 'node_modules'), path.join(project, 'node_modules'))
})

afterAll(() => {
  for (const child of started) child.kill('SIGKILL')
  rmSync(project, { recursive: true, force: true })
})

/** Makes the process that loads it look like another Node or another machine. */
function pretend(what: { version: string; arch?: string }): string[] {
  const code = `
    Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${what.version}' } })
    Object.defineProperty(process, 'version', { value: 'v${what.version}' })
    Object.defineProperty(process, 'arch', { value: '${what.arch ?? process.arch}' })`
  return ['--import', `data:text/javascript,${encodeURIComponent(code)}`]
}

const OLD = pretend({ version: '20.20.2' })
const hasBundledNode = process.platform === 'linux' && (process.arch === 'x64' || process.arch === 'arm64')

interface Run {
  readonly child: ChildProcess
  stdout: string
  stderr: string
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  /** Resolves as soon as stdout contains the text. */
  saw(text: string): Promise<void>
}

function run(args: string[]): Run {
  const child = spawn(process.execPath, args, { cwd: project, stdio: ['ignore', 'pipe', 'pipe'] })
  started.push(child)
  const result: Run = {
    child,
    stdout: '',
    stderr: '',
    ended: new Promise((resolve) => child.on('close', (code, signal) => resolve({ code, signal }))),
    async saw(text) {
      while (!result.stdout.includes(text)) {
        await new Promise((resolve) => child.stdout?.once('data', resolve))
      }
    },
  }
  child.stdout?.on('data', (data) => {
    result.stdout += data
  })
  child.stderr?.on('data', (data) => {
    result.stderr += data
  })
  return result
}

async function firstLine(
  started: Run,
): Promise<{ version: string; pid: number; args: string[]; launcher?: string }> {
  await started.saw('\n')
  return JSON.parse(started.stdout.split('\n')[0] ?? '')
}

it('runs in the same process on a fit Node', async () => {
  const dripgate = run(['bin/dripgate.mjs', 'serve', '--config', 'a b.yaml'])
  const line = await firstLine(dripgate)
  expect(line).toMatchObject({ pid: dripgate.child.pid, args: ['serve', '--config', 'a b.yaml'] })
  expect(line.launcher).toBeUndefined()
})

it.each(['24.14.9', '22.23.2', '20.20.2'])(
  'takes the bundled Node when the running one is %s',
  async (version) => {
    if (!hasBundledNode) return
    const dripgate = run([...pretend({ version }), 'bin/dripgate.mjs', 'exit', '0'])
    const line = await firstLine(dripgate)
    expect(line.pid).not.toBe(dripgate.child.pid)
    expect(line).toMatchObject({ version: 'v24.21.0', args: ['exit', '0'], launcher: '1' })
    expect(await dripgate.ended).toEqual({ code: 0, signal: null })
  },
)

it.each(['24.15.0', '26.0.0'])('takes the running Node when it is %s', async (version) => {
  const dripgate = run([...pretend({ version }), 'bin/dripgate.mjs'])
  expect((await firstLine(dripgate)).pid).toBe(dripgate.child.pid)
})

it('says in one line what to install where there is no fit Node', async () => {
  for (const script of ['bin/dripgate.mjs', 'bin/with-node.mjs']) {
    const launched = run([...pretend({ version: '20.20.2', arch: 'riscv64' }), script, 'serve'])
    expect(await launched.ended).toEqual({ code: 1, signal: null })
    expect(launched.stderr).toMatch(
      /^dripgate needs Node\.js 24\.15 or newer \(this is v20\.20\.2\): install .*\n$/,
    )
    expect(launched.stdout).toBe('')
  }
})

it('starts dist/main.js where there are no sources', async () => {
  const built = mkdtempSync(path.join(tmpdir(), 'dripgate-built-'))
  try {
    cpSync(path.join(repository, 'bin'), path.join(built, 'bin'), { recursive: true })
    mkdirSync(path.join(built, 'dist'))
    writeFileSync(path.join(built, 'package.json'), '{"type":"module"}')
    writeFileSync(path.join(built, 'dist/main.js'), `console.log('built', process.argv[2])`)
    const launched = run([path.join(built, 'bin/dripgate.mjs'), 'version'])
    expect(await launched.ended).toEqual({ code: 0, signal: null })
    expect(launched.stdout).toBe('built version\n')
  } finally {
    rmSync(built, { recursive: true, force: true })
  }
})

it('mirrors the exit code of the child', async () => {
  if (!hasBundledNode) return
  expect(await run([...OLD, 'bin/dripgate.mjs', 'exit', '78']).ended).toEqual({ code: 78, signal: null })
  expect(await run([...OLD, 'bin/with-node.mjs', '-e', 'process.exit(3)']).ended).toEqual({
    code: 3,
    signal: null,
  })
})

it('passes signals on, and ends by the signal that ended the child', async () => {
  if (!hasBundledNode) return
  const dripgate = run([...OLD, 'bin/dripgate.mjs', 'serve'])
  await firstLine(dripgate)
  for (const signal of ['SIGHUP', 'SIGUSR2', 'SIGINT'] as const) {
    dripgate.child.kill(signal)
    await dripgate.saw(signal)
  }
  dripgate.child.kill('SIGTERM')
  expect(await dripgate.ended).toEqual({ code: null, signal: 'SIGTERM' })
})

it('leaves no orphan: a child whose launcher was killed is told so', async () => {
  if (!hasBundledNode) return
  const dripgate = run([...OLD, 'bin/dripgate.mjs', 'serve'])
  await firstLine(dripgate)
  dripgate.child.kill('SIGKILL')
  await dripgate.saw('disconnect')
  // `ended` waits for the pipes to close, and the child holds them as long as it lives.
  expect(await dripgate.ended).toEqual({ code: null, signal: 'SIGKILL' })
})

it('gives the child a PATH on which `node` is the fit Node', async () => {
  const launched = run([
    ...OLD,
    'bin/with-node.mjs',
    '-p',
    `require('node:child_process').execFileSync('node', ['--version'], { encoding: 'utf8' })`,
  ])
  await launched.ended
  if (hasBundledNode) expect(launched.stdout.trim()).toBe('v24.21.0')
})
