import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { percentile } from '../bench/figures.ts'
import { readCpuUs, readMemoryKib } from '../bench/processes.ts'
import { startGateway } from './gateway.ts'
import { createDice, type Dice } from './http1-corpus.ts'
import { LeanClients, startLeanUpstream } from './lean-load.ts'

/*
 * A gateway in its own process under a steady load of which one request in twenty goes wrong: clients that
 * reset or break off their bodies, an upstream that fails or resets.
 */

const WELL_BEHAVED = 0.95
const CONNECTIONS = 64
const STEP_MS = 1
const DIRECT_INTERVAL_MS = 5

/** What one stretch of a soak was like. */
export interface Stretch {
  /** To well-behaved clients, and those that were not as they should be. */
  readonly answers: number
  readonly wrong: number
  /** From when they were due. */
  readonly p99Ms: number
  /** Of requests past the gateway: the delays of the harness, which is the upstream too. */
  readonly directP99Ms: number
  /** The gateway's own time for an answer, faults included: what it takes more of, the machine has become slower. */
  readonly cpuUs: number
  /** Share of the machine's time that a hypervisor gave to others. */
  readonly stolen: number
  /** At its end. */
  readonly memoryKib: number
  readonly descriptors: number
}

export interface Soak extends AsyncDisposable {
  /** Answers in a second with well-behaved clients alone, as many as it can. */
  measurePeak(seconds: number): Promise<number>
  run(seconds: number, requestsPerSecond: number): Promise<Stretch>
  /** A clean stop; gives what the gateway has written to standard error. */
  stop(): Promise<string>
}

export async function openSoak(seed: number): Promise<Soak> {
  const good = await startLeanUpstream()
  const odd = await startOddUpstream()
  const gateway = await startGateway({
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
  const dice = createDice(seed)
  return {
    measurePeak: (seconds) => clients.measurePeak(seconds),
    run: async (seconds, rate) => {
      const [cpuBefore, timesBefore] = [readCpuUs(gateway.pid), readTimes()]
      const load = await runLoad({ port, clients, direct, rate, dice, seconds })
      const times = readTimes()
      return {
        ...load,
        cpuUs: (readCpuUs(gateway.pid) - cpuBefore) / load.answers,
        stolen: (times.stolen - timesBefore.stolen) / (times.all - timesBefore.all),
        memoryKib: readMemoryKib(gateway.pid, 'VmRSS'),
        descriptors: readdirSync(`/proc/${gateway.pid}/fd`).length,
      }
    },
    stop: async () => {
      await gateway.stop()
      return gateway.stderr()
    },
    [Symbol.asyncDispose]: async () => {
      clients.close()
      direct.close()
      await gateway[Symbol.asyncDispose]()
      await good.close()
      await odd.close()
    },
  }
}

/** Of all cores, in ticks. */
function readTimes(): { readonly all: number; readonly stolen: number } {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n')
  const ticks = line.split(/\s+/).slice(1, 9).map(Number)
  return { all: ticks.reduce((sum, each) => sum + each, 0), stolen: ticks[7] ?? 0 }
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
  readonly seconds: number
  readonly dice: Dice
}

async function runLoad({ port, clients, direct, rate, seconds, dice }: Load) {
  const running = new Set<Promise<void>>()
  const startedAt = performance.now()
  let directDueMs = startedAt
  for (let sent = 0; performance.now() - startedAt < seconds * 1000; ) {
    const nowMs = performance.now()
    const due = Math.min(seconds, (nowMs - startedAt) / 1000) * rate
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
