import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { findProgram, readCpuUs, readMemoryKib } from './processes.ts'
import type { Candidate, Stage } from './proxy-candidates.ts'

/** One kind of load. */
export interface Row {
  readonly title: string
  readonly connections: number
  readonly path: string
  readonly token: 'one' | 'many' | 'limited' | 'unknown'
  readonly uploads: boolean
  /** No two requests, and no two answers, have the same fields. */
  readonly isFresh?: boolean
  /** Each request comes on a connection of its own. */
  readonly closes?: boolean
  /** What the answers must be. */
  readonly is2xx: boolean
}

export interface Sample {
  readonly requestsPerSecond: number
  readonly cpuUs: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly peakMib: number
  /** Answers that were not what the row asks for, and socket errors. */
  readonly wrong: number
}

const PEERS = fileURLToPath(new URL('./peers/', import.meta.url))
const run = promisify(execFile)

const WARM_UPS = 3
/** A server that has been up for less than the 12 s is no measure of one that runs for weeks. */
export const WARM_UP_SECONDS = WARM_UPS * Number(process.env['WARM_UP'] ?? 4)

/** Clients come and go in it: what a compiler has not seen yet, it gets to see here. */
export async function warmUp(stage: Stage, row: Row, candidate: Candidate): Promise<void> {
  for (let i = 0; i < WARM_UPS; i++) await drive(stage, row, candidate, WARM_UP_SECONDS / WARM_UPS)
}

export async function measure(
  stage: Stage,
  row: Row,
  candidate: Candidate,
  seconds: number,
): Promise<Sample> {
  await drive(stage, row, candidate, 1)
  const before = readCpuUs(candidate.pid)
  const report = await drive(stage, row, candidate, seconds)
  const cpuUs = readCpuUs(candidate.pid) - before
  const requests = Number(/(\d+) requests in/.exec(report)?.[1] ?? Number.NaN)
  const non2xx = Number(/Non-2xx or 3xx responses: (\d+)/.exec(report)?.[1] ?? 0)
  const errors =
    /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(report)?.slice(1) ?? []
  return {
    requestsPerSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(report)?.[1] ?? Number.NaN),
    cpuUs: cpuUs / requests,
    p50Ms: toMs(/^\s+50%\s+(\S+)/m.exec(report)?.[1]),
    p99Ms: toMs(/^\s+99%\s+(\S+)/m.exec(report)?.[1]),
    peakMib: readMemoryKib(candidate.pid, 'VmHWM') / 1024,
    wrong: (row.is2xx ? non2xx : requests - non2xx) + errors.reduce((sum, count) => sum + Number(count), 0),
  }
}

async function drive(stage: Stage, row: Row, candidate: Candidate, seconds: number): Promise<string> {
  const wrk = findProgram('wrk') ?? 'wrk'
  const args = ['-c', '1', wrk, '-t1', `-c${row.connections}`, `-d${seconds}s`, '--latency']
  if (row.token !== 'many') args.push('-H', `Authorization: Bearer ${toToken(stage, row)}`)
  args.push('-H', 'User-Agent: bench/1.0', '-H', 'Accept: */*')
  if (row.uploads) args.push('-s', `${PEERS}upload.lua`)
  if (row.token === 'many') args.push('-s', `${PEERS}tokens.lua`)
  if (row.closes === true) args.push('-H', 'Connection: close')
  if (row.isFresh === true) args.push('-s', `${PEERS}fresh.lua`)
  args.push(`http://127.0.0.1:${candidate.port}${row.path}`)
  if (row.token === 'many') args.push('--', `${stage.dir}/tokens.txt`)
  const { stdout } = await run('taskset', args, { timeout: (seconds + 30) * 1000 })
  return stdout
}

function toToken(stage: Stage, row: Row): string {
  if (row.token === 'limited') return stage.limitedToken
  return row.token === 'unknown'
    ? 'bench_this_token_is_nobodys_and_never_was_at_all'
    : (stage.tokens[0] ?? '')
}

function toMs(text: string | undefined): number {
  const match = /^([\d.]+)(us|ms|s|m)$/.exec(text ?? '')
  const factor = { us: 0.001, ms: 1, s: 1000, m: 60_000 }[match?.[2] ?? ''] ?? Number.NaN
  return Number(match?.[1]) * factor
}
