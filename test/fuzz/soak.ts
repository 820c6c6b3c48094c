import { readdirSync } from 'node:fs'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { percentile } from '../bench/figures.ts'
import { readMemoryKib } from '../bench/processes.ts'
import { startGateway } from '../support/gateway.ts'
import { createDice, type Dice } from '../support/http1-corpus.ts'
import { LeanClients, startLeanUpstream } from './soak-load.ts'

/**
 * `npm run soak -- [MINUTES] [REQUESTS_PER_SECOND] [SEED]`: a gateway in its own process under a
 * steady load of which one request in twenty goes wrong: clients that reset or break off their
 * bodies, an upstream that fails or resets. Without a rate, or with 0, it is half of the peak, which is
 * measured first. Fails where a well-behaved client gets another answer than it should, where memory or
 * descriptors grow, or where the last minute is slower than the third.
 * The harness is the upstream too, and has its own delays: a few requests go to it directly, and a last
 * minute in which these are slower by as much is the machine's fault.
 */

const WELL_BEHAVED = 0.95
const CONNECTIONS = 64
const PEAK_SECONDS = 5
const STEP_MS = 1
const DIRECT_INTERVAL_MS = 5
const MEMORY_GROWTH_MAX = 1.3
const DESCRIPTORS_GROWTH_MAX = 64

interface Answers {
  readonly answers: number
  readonly wrong: number
  /** From when they were due. */
  readonly p99Ms: number
  /** Of requests past the gateway. */
  readonly directP99Ms: number
}

interface Minute extends Answers {
  readonly memoryKib: number
  readonly descriptors: number
}

const minutes = Number(process.argv[2] ?? 10)
const wantedRate = Number(process.argv[3] ?? 0)
const seed = Number(process.argv[4] ?? Date.now() % 2 ** 31)
process.exitCode = (await soak()) ? 0 : 1

async function soak(): Promise<boolean> {
  const good = await startLeanUpstream()
  const odd = await startOddUpstream()
  await using gateway = await startGateway({
    config: {
      gateway: { workers: 1, engine: 'raw' },
      upstreams: {
        good: { targets: [`http://127.0.0.1:${good.port}`] },
        odd: { targets: [odd.url] },
      },
      routes: [
        { name: 'good', match: { path: '/good' }, upstream: 'good' },
        { name: 'odd', upstream: 'odd' },
      ],
    },
  })
  const port = Number(new URL(gateway.gatewayUrl).port)
  const clients = new LeanClients(port, CONNECTIONS)
  const direct = new LeanClients(good.port, 1)
  const peak = await clients.measurePeak(PEAK_SECONDS)
  const rate = wantedRate > 0 ? wantedRate : Math.round(peak / 2)
  say(`soak: ${minutes} min at ${rate}/s (peak ${peak.toFixed(0)}), seed ${seed}`)
  const dice = createDice(seed)
  const results: Minute[] = []
  for (let minute = 1; minute <= minutes; minute++) {
    const answers = await runMinute({ port, clients, direct, rate, dice })
    const result = {
      ...answers,
      memoryKib: readMemoryKib(gateway.pid, 'VmRSS'),
      descriptors: readdirSync(`/proc/${gateway.pid}/fd`).length,
    }
    results.push(result)
    const latency = `p99 ${result.p99Ms.toFixed(1)} ms (direct: ${result.directP99Ms.toFixed(1)})`
    const size = `${(result.memoryKib / 1024).toFixed(0)} MiB, ${result.descriptors} descriptors`
    say(`${minute}: ${result.answers} answers, ${result.wrong} wrong, ${latency}, ${size}`)
  }
  clients.close()
  direct.close()
  const problems = judge(results)
  if (gateway.stderr() !== '') problems.push(`standard error: ${gateway.stderr().slice(0, 1000)}`)
  await gateway.stop()
  await good.close()
  await odd.close()
  say(problems.length === 0 ? 'no finding' : problems.join('\n'))
  return problems.length === 0
}

/** A path says what it does. */
async function startOddUpstream(): Promise<{ url: string; close(): Promise<void> }> {
  const server = createServer((incoming, answer) => {
    incoming.resume()
    answer.on('error', () => {})
    if (incoming.url === '/reset') incoming.socket.resetAndDestroy()
    else if (incoming.url === '/fail') answer.writeHead(500).end('failed')
    else if (incoming.url === '/cut')
      answer.writeHead(200, { 'Content-Length': '1000' }).write('x', () => incoming.socket.destroy())
    else incoming.on('end', () => answer.end('x'.repeat(1024)))
    incoming.on('error', () => {})
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    close: () => {
      server.closeAllConnections()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}

interface Load {
  readonly port: number
  readonly clients: LeanClients
  readonly direct: LeanClients
  readonly rate: number
  readonly dice: Dice
}

async function runMinute({ port, clients, direct, rate, dice }: Load): Promise<Answers> {
  const running = new Set<Promise<void>>()
  const startedAt = performance.now()
  let directDueMs = startedAt
  for (let sent = 0; performance.now() - startedAt < 60_000; ) {
    const nowMs = performance.now()
    const due = Math.min(60, (nowMs - startedAt) / 1000) * rate
    for (; sent < due; sent++) {
      if (dice.roll(1000) < WELL_BEHAVED * 1000) {
        clients.send(startedAt + (sent / rate) * 1000)
        continue
      }
      const ended = misbehave(port, dice).then(() => void running.delete(ended))
      running.add(ended)
    }
    for (; directDueMs < nowMs; directDueMs += DIRECT_INTERVAL_MS) direct.send(directDueMs)
    await new Promise((resolve) => setTimeout(resolve, STEP_MS))
  }
  await Promise.all(running)
  while (clients.pending + direct.pending > 0) await new Promise((resolve) => setTimeout(resolve, STEP_MS))
  const { times, wrong } = clients
  const directP99Ms = percentile(direct.times, 0.99)
  clients.times = []
  clients.wrong = 0
  direct.times = []
  return { answers: times.length, wrong, p99Ms: percentile(times, 0.99), directP99Ms }
}

/** One of the ways to go wrong; there is no wrong outcome, as long as it ends. */
function misbehave(port: number, dice: Dice): Promise<void> {
  const text = dice.pick([
    'GET /good HTTP/1.1\r\nHost: a\r\n\r\n',
    'POST /other HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome',
    'POST /other HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nsome',
    'GET /reset HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
    'POST /reset HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nsome',
    'GET /fail HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
    'GET /cut HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
    'GET /good HTTP/1.1\r\nHost : a\r\n\r\n',
  ])
  const waitMs = dice.roll(50)
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => {})
    socket.on('data', () => {})
    socket.once('close', () => resolve())
    socket.write(text)
    setTimeout(() => (text.includes('close') ? socket.end() : socket.resetAndDestroy()), waitMs)
  })
}

function judge(results: readonly Minute[]): string[] {
  const problems: string[] = []
  const wrong = results.reduce((sum, minute) => sum + minute.wrong, 0)
  if (wrong > 0) problems.push(`${wrong} wrong answers to well-behaved clients`)
  const base = results[Math.min(2, results.length - 1)]
  const last = results.at(-1)
  if (base === undefined || last === undefined) return problems
  if (last.memoryKib > base.memoryKib * MEMORY_GROWTH_MAX) problems.push('memory grew')
  if (last.descriptors > base.descriptors + DESCRIPTORS_GROWTH_MAX) problems.push('descriptors grew')
  const slowdown = Math.max(1, last.directP99Ms / base.directP99Ms)
  if (results.length > 3 && last.p99Ms > base.p99Ms * slowdown * 1.2 + 1)
    problems.push('the last minute was slower than the third')
  return problems
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}
