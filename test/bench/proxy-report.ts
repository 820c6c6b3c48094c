import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import { findProgram } from './processes.ts'
import { type Sample, WARM_UP_SECONDS } from './proxy-load.ts'

export interface RowResult {
  readonly title: string
  readonly candidates: readonly Compared[]
}

/** With the ratios to nginx doing the same, medians of all rounds. */
interface Compared extends Sample {
  readonly name: string
  readonly cpuRatio: number
  readonly p99Ratio: number
}

export interface IdleResult {
  readonly name: string
  readonly connections: number
  readonly mib: number
  readonly kibEach: number
}

const REPORT = fileURLToPath(new URL('../../docs/benchmarks.md', import.meta.url))

export function describeMachine(): string {
  const model = cpus()[0]?.model ?? 'unknown processor'
  const memory = (totalmem() / 1024 ** 3).toFixed(1)
  const load = readFileSync('/proc/loadavg', 'utf8').split(' ').slice(0, 3).join(' ')
  return [
    `${cpus().length} × ${model}, ${memory} GiB, Linux ${release()}, load before the run ${load}.`,
    `Node.js ${process.version}, ${askVersion('nginx', '-v')}, ${askVersion('haproxy', '-v')}, ${askVersion('wrk', '-v')}.`,
  ].join('\n')
}

/** Some programs say it on the one stream, some on the other, and some fail while they do. */
function askVersion(name: string, flag: string): string {
  const script = `${findProgram(name)} ${flag} 2>&1 || true`
  const text = execFileSync('sh', ['-c', script], { encoding: 'utf8' })
  return `${name} ${/\d+\.\d+(\.\d+)*/.exec(text)?.[0] ?? 'of an unknown version'}`
}

export function toReport(
  rows: readonly RowResult[],
  idle: readonly IdleResult[],
  run: { readonly machine: string; readonly rounds: number; readonly seconds: number },
): string {
  const parts = [
    '# Benchmarks',
    'Written by `npm run bench -- proxy`. Figures hold for one machine and one run: compare them within a table.',
    run.machine,
    METHOD.replace('ROUNDS', String(run.rounds))
      .replace('SECONDS', String(run.seconds))
      .replace('WARM_UP', String(WARM_UP_SECONDS)),
    ...rows.map(toTable),
    idle.length === 0 ? '' : toIdleTable(idle),
    NOT_MEASURED,
  ]
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`
}

export function writeReport(report: string): void {
  writeFileSync(REPORT, report)
}

const METHOD = `Each proxy is a real process with one worker, pinned to core 0; the upstream (nginx) and the load (wrk, one thread) share core 1. Loopback, no TLS.
The candidates take turns within each row: ROUNDS rounds of SECONDS s each, after WARM_UP s of warm-up, and 1 s before each; the table shows medians (memory: the
most), also of the ratios of each round. CPU is user and system time
of the process and its children by the system's own accounting, divided by the requests of the round. \`-same\` does the gateway's work (key table, limit, request id, Via,
Forwarded and X-Forwarded-*, identity and RateLimit fields), \`-plain\` only limits and forwards, http-proxy-3 and @fastify/http-proxy only forward, \`haproxy-tcp\` passes bytes on unread (what the kernel alone takes); the configurations are in test/bench/peers. nginx cannot tell what is left in a
bucket, so its RateLimit fields are constants. Where core 1 was the bottleneck, requests/s is a lower bound; CPU per request is not affected.
wrk adds to the latencies what requests would have met that a stall kept it from sending: one stall of 20 ms in a round of a second is enough to be its p99.`

const NOT_MEASURED = `## Not measured

TLS, HTTP/2, WebSockets, a real network, scaling over more cores (with two threads the load shares a core with one of them), Redis. HAProxy's access log: it needs a syslog server.`

function toTable({ title, candidates }: RowResult): string {
  const lines = candidates.map((each) => {
    const cells = [
      each.name,
      each.requestsPerSecond.toFixed(0),
      each.cpuUs.toFixed(1),
      each.p50Ms.toFixed(2),
      each.p99Ms.toFixed(2),
      each.peakMib.toFixed(0),
      each.cpuRatio.toFixed(2),
      each.p99Ratio.toFixed(2),
      String(each.wrong),
    ]
    return `| ${cells.join(' | ')} |`
  })
  const head =
    '| Candidate | requests/s | CPU µs/request | p50 ms | p99 ms | peak MiB | CPU : nginx-same | p99 : nginx-same | wrong |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|'
  return `## ${title}\n\n${head}\n${lines.join('\n')}`
}

function toIdleTable(idle: readonly IdleResult[]): string {
  const lines = idle.map(
    ({ name, connections, mib, kibEach }) =>
      `| ${name} | ${connections} | ${mib.toFixed(0)} | ${kibEach.toFixed(1)} |`,
  )
  return `## Idle connections\n\n| Candidate | connections | resident MiB | KiB a connection |\n|---|---:|---:|---:|\n${lines.join('\n')}`
}
