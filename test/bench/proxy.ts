import { median } from './figures.ts'
import { findProgram } from './processes.ts'
import { BASELINE, type Candidate, LIBRARIES, openStage, type Stage } from './proxy-candidates.ts'
import { measureIdle } from './proxy-idle.ts'
import { measure, type Row, type Sample, warmUp } from './proxy-load.ts'
import { describeMachine, type IdleResult, type RowResult, toReport, writeReport } from './proxy-report.ts'

const ALL = [
  'dripgate-raw',
  'dripgate-node',
  'nginx-same',
  'nginx-plain',
  'haproxy-same',
  'haproxy-plain',
  'haproxy-tcp',
  ...LIBRARIES,
]
const SAME = ['dripgate-raw', 'dripgate-node', 'nginx-same', 'haproxy-same']
const SMALL = { connections: 64, path: '/', token: 'one', uploads: false, is2xx: true } as const

interface Plan {
  readonly id: string
  readonly row: Row
  readonly candidates: readonly string[]
  readonly workers?: number
  readonly logs?: boolean
}

const PLANS: readonly Plan[] = [
  { id: 'small', row: { ...SMALL, title: '1 KiB, 64 connections' }, candidates: ALL },
  { id: 'wide', row: { ...SMALL, title: '1 KiB, 256 connections', connections: 256 }, candidates: SAME },
  { id: 'tokens', row: { ...SMALL, title: '1 KiB, 1,000 tokens', token: 'many' }, candidates: SAME },
  {
    id: 'fresh',
    row: {
      ...SMALL,
      title: '1 KiB, 64 connections, fields that never come again',
      path: '/fresh',
      isFresh: true,
    },
    candidates: SAME,
  },
  {
    id: 'close',
    row: { ...SMALL, title: '1 KiB, a connection for each request, 64 at a time', closes: true },
    candidates: SAME,
  },
  { id: 'limited', row: { ...SMALL, title: '429', token: 'limited', is2xx: false }, candidates: SAME },
  { id: 'unknown', row: { ...SMALL, title: '401', token: 'unknown', is2xx: false }, candidates: SAME },
  {
    id: 'down',
    row: { ...SMALL, title: '1 MiB down, 16 connections', connections: 16, path: '/large' },
    candidates: [...SAME, 'nginx-plain'],
  },
  {
    id: 'up',
    row: { ...SMALL, title: '1 MiB up, 16 connections', connections: 16, path: '/upload', uploads: true },
    candidates: SAME,
  },
  {
    id: 'log',
    row: { ...SMALL, title: '1 KiB, 64 connections, access log on' },
    candidates: SAME.slice(0, 3),
    logs: true,
  },
  {
    id: 'threads',
    row: { ...SMALL, title: '1 KiB, 128 connections, 2 threads', connections: 128 },
    candidates: SAME.slice(0, 3),
    workers: 2,
  },
]

/**
 * Measures the gateway beside its peers, doing the same work in front of the same upstream.
 * `rows` are ids of rows; without any, all of them are measured and docs/benchmarks.md is written.
 */
export async function benchProxy(rows: readonly string[]): Promise<void> {
  const missing = ['nginx', 'haproxy', 'wrk', 'taskset'].filter((name) => findProgram(name) === undefined)
  if (missing.length > 0) {
    process.stderr.write(
      `missing: ${missing.join(', ')}. On Debian: apt-get install nginx-light haproxy wrk util-linux\n`,
    )
    process.exitCode = 1
    return
  }
  process.setMaxListeners(0)
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))
  const rounds = Number(process.env['ROUNDS'] ?? 3)
  const seconds = Number(process.env['SECONDS'] ?? 4)
  const plans = PLANS.filter((plan) => rows.length === 0 || rows.includes(plan.id))
  const stage = await openStage()
  try {
    const results: RowResult[] = []
    for (const plan of plans) results.push(await runPlan(stage, plan, rounds, seconds))
    const isWhole = rows.length === 0
    const idle: IdleResult[] = []
    if (isWhole || rows.includes('idle')) {
      for (const name of ['dripgate-raw', 'dripgate-node', 'nginx-same'])
        idle.push(await measureIdle(stage, name))
    }
    const report = toReport(results, idle, { machine: describeMachine(), rounds, seconds })
    process.stdout.write(`\n${report}\n`)
    if (isWhole) writeReport(report)
  } finally {
    await stage.close()
  }
}

/** All candidates run at once, idle but for the one that is measured, and take turns. */
async function runPlan(stage: Stage, plan: Plan, rounds: number, seconds: number): Promise<RowResult> {
  const { row, workers = 1, logs = false } = plan
  const only = process.env['CANDIDATES']?.split(',')
  const candidates: Candidate[] = []
  const baseline = process.env['BASELINE'] === undefined ? [] : [BASELINE]
  for (const name of [...baseline, ...plan.candidates]) {
    if (only !== undefined && name !== BASELINE && !only.includes(name)) continue
    const candidate = await stage.start(name, { workers, logs })
    candidates.push(candidate)
    await warmUp(stage, row, candidate)
  }
  const samples = new Map<string, Sample[]>(candidates.map(({ name }) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (const candidate of candidates) {
      const sample = await measure(stage, row, candidate, seconds)
      samples.get(candidate.name)?.push(sample)
      const { requestsPerSecond, cpuUs, p99Ms, wrong } = sample
      const figures = `${requestsPerSecond.toFixed(0)}/s  ${cpuUs.toFixed(2)} µs  p99 ${p99Ms.toFixed(2)} ms  wrong ${wrong}`
      process.stdout.write(`${row.title.padEnd(40)} ${candidate.name.padEnd(14)} ${figures}\n`)
    }
  }
  for (const candidate of candidates) await candidate.stop()
  const nginx = samples.get('nginx-same') ?? []
  const results = [...samples].map(([name, all]) => ({
    name,
    cpuRatio: compare(all, nginx, ({ cpuUs }) => cpuUs),
    p99Ratio: compare(all, nginx, ({ p99Ms }) => p99Ms),
    ...toMedians(all),
  }))
  return { title: row.title, candidates: results }
}

/** Of each round by itself: what else the machine does changes from one to the next. */
function compare(
  some: readonly Sample[],
  others: readonly Sample[],
  pick: (sample: Sample) => number,
): number {
  const ratios = some.flatMap((sample, round) => {
    const other = others[round]
    return other === undefined ? [] : [pick(sample) / pick(other)]
  })
  return median(ratios)
}

function toMedians(all: readonly Sample[]): Sample {
  const of = (pick: (sample: Sample) => number) => median(all.map(pick))
  return {
    requestsPerSecond: of((sample) => sample.requestsPerSecond),
    cpuUs: of((sample) => sample.cpuUs),
    p50Ms: of((sample) => sample.p50Ms),
    p99Ms: of((sample) => sample.p99Ms),
    peakMib: Math.max(...all.map((sample) => sample.peakMib)),
    wrong: all.reduce((sum, sample) => sum + sample.wrong, 0),
  }
}
