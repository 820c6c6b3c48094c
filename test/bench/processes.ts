import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import path from 'node:path'

/** Processes of benchmarks: pinned to a core, measured by what the system says of them. */

export interface Pinned {
  readonly pid: number
  stop(): Promise<void>
}

/** Where Debian puts servers, which is not in everybody's path. */
const PLACES = [...(process.env['PATH'] ?? '').split(path.delimiter), '/usr/sbin', '/sbin']

export function findProgram(name: string): string | undefined {
  return PLACES.map((place) => path.join(place, name)).find((file) => existsSync(file))
}

export function spawnPinned(cores: string, command: readonly string[], options: { cwd: string }): Pinned {
  const child = spawn('taskset', ['-c', cores, ...command], {
    ...options,
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  process.once('exit', () => child.kill('SIGKILL'))
  return { pid: child.pid ?? -1, stop: () => stop(child) }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((resolve) => child.once('exit', resolve))
  const late = setTimeout(() => child.kill('SIGKILL'), 3000)
  child.kill('SIGTERM')
  await gone
  clearTimeout(late)
}

/** Below those that outgoing connections get, or one of these may take it before the server does. */
const PORTS = { first: 15_000, count: 15_000 }

export async function findFreePort(): Promise<number> {
  for (;;) {
    const port = PORTS.first + Math.floor(Math.random() * PORTS.count)
    const server = createServer()
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false))
      server.listen(port, '127.0.0.1', () => resolve(true))
    })
    if (!isFree) continue
    await new Promise((resolve) => server.close(resolve))
    return port
  }
}

/** Resolves once somebody listens; fails after ten seconds. */
export async function untilListening(port: number): Promise<void> {
  for (const deadline = Date.now() + 10_000; ; ) {
    if (await isListening(port)) return
    if (Date.now() > deadline) throw new Error(`nobody listens on port ${port}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}

const TICKS_PER_SECOND = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))

/** User and system time in microseconds of a process and all below it. */
export function readCpuUs(pid: number): number {
  let ticks = 0
  for (const each of listTree(pid)) {
    const fields = readStat(each)
    ticks += Number(fields[11] ?? 0) + Number(fields[12] ?? 0)
  }
  return (ticks * 1_000_000) / TICKS_PER_SECOND
}

/** KiB; `VmRSS` now, or `VmHWM` at most so far. Shared pages count for each process. */
export function readMemoryKib(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  let kib = 0
  for (const each of listTree(pid)) {
    const status = readOr(`/proc/${each}/status`)
    kib += Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0)
  }
  return kib
}

function listTree(root: number): number[] {
  const parents = new Map<number, number>()
  for (const name of readdirSync('/proc')) {
    if (/^\d+$/.test(name)) parents.set(Number(name), Number(readStat(Number(name))[1] ?? 0))
  }
  const tree = [root]
  for (const pid of tree) for (const [child, parent] of parents) if (parent === pid) tree.push(child)
  return tree
}

/** The fields behind the name, which may hold anything: state, parent … */
function readStat(pid: number): string[] {
  const text = readOr(`/proc/${pid}/stat`)
  return text.slice(text.lastIndexOf(')') + 2).split(' ')
}

function readOr(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
