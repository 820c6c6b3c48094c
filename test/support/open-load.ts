import { Agent, request } from 'node:http'
import type { Socket } from 'node:net'

/** What became of every request of an open-loop load. */
export interface OpenLoadResult {
  readonly sent: number
  /** Answered 200, to the last byte. */
  readonly succeeded: number
  /** Everything else, by status or error code. */
  readonly failures: Readonly<Record<string, number>>
  /** Connections that were opened. */
  readonly connections: number
  /** From the instant at which a request was due, so that a wait in a queue counts too. */
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
  /** The longest time in which no request succeeded. */
  readonly gapMs: number
}

interface OpenLoadOptions {
  readonly origin: string
  readonly path?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly perSecond: number
  /** How many requests are sent; left out: as many as there are due until `until` resolves. */
  readonly count?: number
  readonly until?: Promise<unknown>
  readonly connections?: number
  /** A request that has no answer by then has failed; long, as a busy machine makes a queue of what is due. */
  readonly timeoutMs?: number
  /** For one without keep-alive, each request on a connection of its own. */
  readonly keepAlive?: boolean
}

const TICK_MS = 5

/**
 * Sends requests at a fixed rate, whatever becomes of those before, and repeats none: what a
 * gateway loses is counted. Resolves when all have been answered or have failed.
 */
export async function runOpenLoad(options: OpenLoadOptions): Promise<OpenLoadResult> {
  const { perSecond, connections = 64, keepAlive = true } = options
  let count = options.count ?? Number.POSITIVE_INFINITY
  void options.until?.finally(() => {
    count = sent
  })
  const agent = new Agent({
    keepAlive,
    maxSockets: connections,
    maxFreeSockets: connections,
    scheduling: 'fifo',
  })
  const sockets = new WeakSet<Socket>()
  const latencies: number[] = []
  const failures: Record<string, number> = {}
  let opened = 0
  let sent = 0
  let gapMs = 0
  const startedAt = performance.now()
  let succeededAt = startedAt

  const send = async (dueAt: number): Promise<void> => {
    const outcome = await sendOne(options, agent, (socket) => {
      if (sockets.has(socket)) return
      sockets.add(socket)
      opened++
    })
    const now = performance.now()
    if (outcome !== '200') {
      failures[outcome] = (failures[outcome] ?? 0) + 1
      return
    }
    gapMs = Math.max(gapMs, now - succeededAt)
    succeededAt = now
    latencies.push(now - dueAt)
  }

  const running: Promise<void>[] = []
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const due = Math.min(count, Math.floor(((performance.now() - startedAt) * perSecond) / 1000))
      while (sent < due) running.push(send(startedAt + (1000 * sent++) / perSecond))
      if (sent < count) return
      clearInterval(timer)
      resolve()
    }, TICK_MS)
  })
  await Promise.all(running)
  agent.destroy()
  latencies.sort((a, b) => a - b)
  const quantile = (q: number): number => Math.round(latencies[Math.floor(q * (latencies.length - 1))] ?? 0)
  return {
    ...{ sent, succeeded: latencies.length, failures, connections: opened },
    ...{ p50Ms: quantile(0.5), p99Ms: quantile(0.99), maxMs: quantile(1), gapMs: Math.round(gapMs) },
  }
}

/** The status, or why there was none. Never rejects. */
function sendOne(
  { origin, path = '/', headers = {}, timeoutMs = 60_000 }: OpenLoadOptions,
  agent: Agent,
  onSocket: (socket: Socket) => void,
): Promise<string> {
  return new Promise((resolve) => {
    const outgoing = request(origin + path, { agent, headers }, (answer) => {
      answer.resume()
      answer.once('end', () => settle(answer.complete ? String(answer.statusCode) : 'cut'))
      answer.once('error', () => settle('cut'))
    })
    const timer = setTimeout(() => {
      settle('timeout')
      outgoing.destroy()
    }, timeoutMs)
    const settle = (outcome: string): void => {
      clearTimeout(timer)
      resolve(outcome)
    }
    outgoing.once('socket', onSocket)
    outgoing.once('error', (error: NodeJS.ErrnoException) => settle(error.code ?? error.message))
    outgoing.end()
  })
}
