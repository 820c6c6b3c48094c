import { readdirSync } from 'node:fs'
import { Agent, createServer, request } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { percentile } from '../bench/figures.ts'
import { readMemoryKib } from '../bench/processes.ts'
import { type RunningGateway, startGateway } from '../support/gateway.ts'
import { createDice, type Dice } from '../support/http1-corpus.ts'

/**
 * `npm run soak -- [MINUTES] [REQUESTS_PER_SECOND] [SEED]`: a gateway in its own process under a
 * steady load of which one request in twenty goes wrong: clients that reset or break off their
 * bodies, an upstream that fails or resets. Fails where a well-behaved client gets another answer
 * than it should, where memory or descriptors grow, or where the last minute is slower than the third.
 * The harness is the upstream too, and has its own delays: a few requests go to it directly, and a last
 * minute in which these are slower by as much is the machine's fault.
 */

const WELL_BEHAVED = 0.95
const STEP_MS = 20
const MEMORY_GROWTH_MAX = 1.3
const DESCRIPTORS_GROWTH_MAX = 64

interface Minute {
  readonly answers: number
  readonly wrong: number
  readonly p99Ms: number
  /** Of requests past the gateway. */
  readonly directP99Ms: number
  readonly memoryKib: number
  readonly descriptors: number
}

const minutes = Number(process.argv[2] ?? 10)
const rate = Number(process.argv[3] ?? 2000)
const seed = Number(process.argv[4] ?? Date.now() % 2 ** 31)
process.exitCode = (await soak()) ? 0 : 1

async function soak(): Promise<boolean> {
  const upstream = await startUpstream()
  await using gateway = await startGateway({
    config: {
      gateway: { workers: 1, engine: 'raw' },
      upstreams: { main: { targets: [upstream.url] } },
      routes: [{ name: 'all', upstream: 'main' }],
    },
  })
  say(`soak: ${minutes} min at ${rate}/s, seed ${seed}`)
  const dice = createDice(seed)
  const results: Minute[] = []
  for (let minute = 1; minute <= minutes; minute++) {
    const result = await runMinute(gateway, upstream.url, dice)
    results.push(result)
    const { answers, wrong, p99Ms, directP99Ms, memoryKib, descriptors } = result
    const latency = `p99 ${p99Ms.toFixed(1)} ms (direct: ${directP99Ms.toFixed(1)})`
    const size = `${(memoryKib / 1024).toFixed(0)} MiB, ${descriptors} descriptors`
    say(`${minute}: ${answers} answers, ${wrong} wrong, ${latency}, ${size}`)
  }
  const problems = judge(results)
  if (gateway.stderr() !== '') problems.push(`standard error: ${gateway.stderr().slice(0, 1000)}`)
  await gateway.stop()
  await upstream.close()
  say(problems.length === 0 ? 'no finding' : problems.join('\n'))
  return problems.length === 0
}

/** Answers at once; a path says what else it does. */
async function startUpstream(): Promise<{ url: string; close(): Promise<void> }> {
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

async function runMinute(gateway: RunningGateway, upstreamUrl: string, dice: Dice): Promise<Minute> {
  const { port } = new URL(gateway.gatewayUrl)
  const { port: upstreamPort } = new URL(upstreamUrl)
  const agent = new Agent({ keepAlive: true, maxSockets: 64 })
  const directAgent = new Agent({ keepAlive: true })
  const times: number[] = []
  const directTimes: number[] = []
  const running = new Set<Promise<void>>()
  let wrong = 0
  const startedAt = performance.now()
  for (let sent = 0; performance.now() - startedAt < 60_000; ) {
    const due = ((performance.now() - startedAt) / 1000) * rate
    for (; sent < due; sent++) {
      const isGood = dice.roll(1000) < WELL_BEHAVED * 1000
      const call = isGood ? ask(Number(port), agent, times) : misbehave(Number(port), dice)
      const settled = call.then((isRight) => {
        if (!isRight) wrong++
        running.delete(settled)
      })
      running.add(settled)
    }
    void ask(Number(upstreamPort), directAgent, directTimes)
    await new Promise((resolve) => setTimeout(resolve, STEP_MS))
  }
  await Promise.all(running)
  agent.destroy()
  directAgent.destroy()
  return {
    ...{ answers: times.length, wrong, p99Ms: percentile(times, 0.99) },
    directP99Ms: percentile(directTimes, 0.99),
    memoryKib: readMemoryKib(gateway.pid, 'VmRSS'),
    descriptors: readdirSync(`/proc/${gateway.pid}/fd`).length,
  }
}

/** Whether a good request got its good answer. */
function ask(port: number, agent: Agent, times: number[]): Promise<boolean> {
  const sentAt = performance.now()
  return new Promise((resolve) => {
    const call = request({ port, host: '127.0.0.1', agent, method: 'GET', path: '/good' }, (answer) => {
      let bytes = 0
      answer.on('data', (chunk: Buffer) => {
        bytes += chunk.length
      })
      answer.on('end', () => {
        times.push(performance.now() - sentAt)
        resolve(answer.statusCode === 200 && bytes === 1024)
      })
      answer.on('error', () => resolve(false))
    })
    call.on('error', () => resolve(false))
    call.end()
  })
}

/** One of the ways to go wrong; there is no wrong outcome, as long as it ends. */
function misbehave(port: number, dice: Dice): Promise<boolean> {
  const text = dice.pick([
    'GET /good HTTP/1.1\r\nHost: a\r\n\r\n',
    'POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome',
    'POST /good HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nsome',
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
    socket.once('close', () => resolve(true))
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
