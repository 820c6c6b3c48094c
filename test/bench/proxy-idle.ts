import { connect, type Socket } from 'node:net'
import { readMemoryKib } from './processes.ts'
import type { Stage } from './proxy-candidates.ts'
import type { IdleResult } from './proxy-report.ts'

const CONNECTIONS = 9_000
const BATCH = 100

/** What a connection costs in memory once it has had an answer and waits for its next request. */
export async function measureIdle(stage: Stage, name: string): Promise<IdleResult> {
  const candidate = await stage.start(name)
  const token = stage.tokens[0] ?? ''
  const sockets: Socket[] = []
  try {
    for (let i = 0; i < 1000; i += BATCH) await openBatch(candidate.port, token, sockets)
    const before = readMemoryKib(candidate.pid, 'VmRSS')
    const first = sockets.length
    while (sockets.length < first + CONNECTIONS) await openBatch(candidate.port, token, sockets)
    await new Promise((resolve) => setTimeout(resolve, 2000))
    const after = readMemoryKib(candidate.pid, 'VmRSS')
    return { name, connections: sockets.length, mib: after / 1024, kibEach: (after - before) / CONNECTIONS }
  } finally {
    for (const socket of sockets) socket.destroy()
    await candidate.stop()
  }
}

async function openBatch(port: number, token: string, sockets: Socket[]): Promise<void> {
  await Promise.all(
    Array.from({ length: BATCH }, async () => {
      const socket = connect(port, '127.0.0.1')
      sockets.push(socket)
      socket.on('error', () => {})
      socket.write(`GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}\r\n\r\n`)
      await new Promise((resolve) => socket.once('data', resolve).once('close', resolve))
    }),
  )
}
