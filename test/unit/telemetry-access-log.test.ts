import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { FinishedExchange } from '../../src/ports/runtime.ts'
import { openAccessLog } from '../../src/telemetry/access-log.ts'
import { createCounters, createNames } from '../../src/telemetry/counters.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { createRecorder } from '../../src/telemetry/recorder.ts'

let directory: string
let file: string

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'dripgate-access-'))
  file = path.join(directory, 'access.log')
})

afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

const EXCHANGE: FinishedExchange = {
  routeId: 0,
  routeName: 'orders',
  decision: 'allowed',
  status: 200,
  method: 'GET',
  path: '/orders/1',
  startMs: Date.UTC(2026, 0, 2, 3, 4, 5, 678),
  durationMs: 4.12345,
  upstreamName: 'shop',
  upstreamId: 0,
  upstreamMs: 3.5,
  bytesIn: 10,
  bytesOut: 100,
  requestId: 'r-1',
  kid: 'k_abc',
  remoteAddress: '192.0.2.7',
  aborted: false,
}

function read(from = file): Record<string, unknown>[] {
  const text = readFileSync(from, 'utf8')
  return text === ''
    ? []
    : text
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line))
}

function writeOne(change: Partial<FinishedExchange>): Record<string, unknown> | undefined {
  const log = openAccessLog(file)
  log.write({ ...EXCHANGE, ...change })
  log.close()
  return read().at(-1)
}

it('writes one JSON line a request', () => {
  expect(writeOne({})).toEqual({
    time: '2026-01-02T03:04:05.678Z',
    level: 'info',
    msg: 'request',
    request_id: 'r-1',
    trace_id: '',
    client: '192.0.2.7',
    method: 'GET',
    path: '/orders/1',
    route: 'orders',
    decision: 'allowed',
    key_id: 'k_abc',
    status: 200,
    duration_ms: 4.123,
    upstream: 'shop',
    upstream_ms: 3.5,
    bytes_in: 10,
    bytes_out: 100,
    aborted: false,
  })
  expect(writeOne({ upstreamMs: -1, upstreamName: '' })).toMatchObject({ upstream: '', upstream_ms: null })
})

it('holds no query, in which a token may be', () => {
  expect(writeOne({ path: '/orders?api_key=planted' })).toMatchObject({ path: '/orders' })
  expect(readFileSync(file, 'utf8')).not.toContain('planted')
})

it('is not broken, forged or made dangerous by what clients send', () => {
  const hostile = '/a\r\n{"status":200}\u001b[2J"\\\u007f\u009b\u2028é😀\ud800x'
  const line = writeOne({ path: hostile, method: hostile, requestId: hostile, remoteAddress: hostile })
  expect(line).toMatchObject({ path: hostile.toWellFormed(), method: hostile.toWellFormed(), status: 200 })
  expect(readFileSync(file, 'latin1')).toMatch(/^[\x20-\x7e]+\n$/)
})

it('bounds a line to what a pipe takes whole', () => {
  const long = '\u0000'.repeat(20_000)
  const line = writeOne({
    path: long,
    method: long,
    requestId: long,
    kid: long,
    routeName: long,
    upstreamName: long,
    remoteAddress: long,
  })
  expect(String(line?.['path']).endsWith('...')).toBe(true)
  expect(statSync(file).size).toBeLessThanOrEqual(4096)
})

it('copies what it keeps, because exchanges are reused', () => {
  const log = openAccessLog(file)
  const reused = { ...EXCHANGE }
  log.write(reused)
  reused.path = '/other'
  log.close()
  expect(read()).toMatchObject([{ path: '/orders/1' }])
})

it('writes within a moment, without being asked to', async () => {
  const log = openAccessLog(file)
  log.write(EXCHANGE)
  await vi.waitFor(() => expect(read()).toHaveLength(1), { timeout: 5000 })
  log.close()
})

it('writes all of a burst, in order, and appends to what is there', async () => {
  for (const round of [0, 1]) {
    const log = openAccessLog(file)
    for (let i = 0; i < 2000; i++) log.write({ ...EXCHANGE, status: 100 + i })
    await vi.waitFor(() => expect(read().length).toBeGreaterThan(round * 2000 + 1000), { timeout: 5000 })
    log.close()
    expect(log.linesDropped()).toBe(0)
  }
  const statuses = [...Array(2000).keys()].map((i) => 100 + i)
  expect(read().map(({ status }) => status)).toEqual([...statuses, ...statuses])
})

it('goes on in a new file when the old one was moved away before a reload', async () => {
  const before = openAccessLog(file)
  const moved = path.join(directory, 'access.log.1')
  before.write({ ...EXCHANGE, path: '/before' })
  await vi.waitFor(() => expect(read()).toHaveLength(1), { timeout: 5000 })
  renameSync(file, moved)
  // What a reload does: the new log first, then the old one is closed.
  const log = openAccessLog(file)
  before.close()
  log.write({ ...EXCHANGE, path: '/after' })
  await vi.waitFor(() => expect(read()).toMatchObject([{ path: '/after' }]), { timeout: 5000 })
  expect(read(moved)).toMatchObject([{ path: '/before' }])
  log.close()
})

it('drops lines, counts them and keeps a bounded number when nobody writes them out', async () => {
  const counters = createCounters(1)
  const names = createNames()
  const metrics = createMetrics({ counters, names, version: '0', nowMs: () => 0, upstreams: () => [] })
  const accessLog = openAccessLog(file)
  const recorder = createRecorder({ counters, threadIndex: 0, names: names.all(), accessLog })
  // One turn of the event loop: not a single write can end in it.
  for (let i = 0; i < 10_000; i++) recorder.record(EXCHANGE)
  const dropped = accessLog.linesDropped()
  expect(dropped).toBeGreaterThan(5000)
  expect((await metrics.render()).body).toContain(`dripgate_access_log_lines_dropped_total ${dropped}\n`)
  await vi.waitFor(() => expect(read()).toHaveLength(10_000 - dropped), { timeout: 5000 })
  accessLog.close()
  recorder.setAccessLog(undefined)
  recorder.record(EXCHANGE)
  expect((await metrics.render()).body).toContain(`dripgate_access_log_lines_dropped_total ${dropped}\n`)
})

it('says so when the file cannot be opened', () => {
  expect(() => openAccessLog(path.join(directory, 'no', 'such', 'directory'))).toThrow('ENOENT')
})

/** More than the pool for blocking calls has. */
const THREADS = 5

/** Over a pipe as a shell makes it, or over a socket, which is what Node gives to its children. */
function runThreads(over: 'pipe' | 'socket', script: string) {
  const module = new URL('../../src/telemetry/access-log.ts', import.meta.url).href
  const worker = `
    import(${JSON.stringify(module)}).then(async ({ openAccessLog }) => {
      const exchange = { ...${JSON.stringify(EXCHANGE)}, path: '/' + 'x'.repeat(300) }
      const log = openAccessLog('stdout')
      ${script}
    })`
  const logger = new URL('../../src/telemetry/logger.ts', import.meta.url).href
  const main = `
    const { Worker } = require('node:worker_threads')
    import(${JSON.stringify(logger)}).then(async ({ createLogger }) => {
      createLogger()
      process.stdin.resume().on('end', () => process.exit(0))
      const threads = Array.from({ length: ${THREADS} }, () => new Worker(${JSON.stringify(worker)}, { eval: true }))
      await Promise.all(threads.map((thread) => new Promise((resolve) => thread.on('exit', resolve))))
      process.exit(0)
    })`
  if (over === 'socket') return spawn(process.execPath, ['-e', main], { stdio: 'pipe' })
  return spawn('sh', ['-c', '"$0" -e "$1" | cat', process.execPath, main], { stdio: 'pipe' })
}

it.each(['pipe', 'socket'] as const)(
  'neither mixes nor loses the lines that several threads write to one %s',
  async (over) => {
    // Less than what may wait in each thread, so that nothing is dropped on a slow machine either.
    const child = runThreads(
      over,
      `
      for (let i = 0; i < 40; i++) {
        for (let n = 0; n < 20; n++) log.write(exchange)
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
      setInterval(() => {}, 1000)`,
    )
    const lines = createInterface({ input: child.stdout })
    let seen = 0
    for await (const line of lines) {
      expect(JSON.parse(line)).toMatchObject({ status: 200, path: `/${'x'.repeat(300)}` })
      seen += 1
      if (seen === THREADS * 800) break
    }
    expect(seen).toBe(THREADS * 800)
    child.stdin.end()
    child.stdout.resume()
    expect(await once(child, 'close')).toEqual([0, null])
  },
)

it('neither waits nor grows when the reader of standard output stands still', async () => {
  const child = runThreads(
    'socket',
    `
    for (let i = 0; i < 20; i++) {
      for (let n = 0; n < 1000; n++) log.write(exchange)
      await new Promise((resolve) => setImmediate(resolve))
    }
    if (log.linesDropped() < 10000) throw new Error('dropped only ' + log.linesDropped())
    // The pool that all threads share still works.
    await require('node:fs/promises').stat(process.execPath)
    log.close()`,
  )
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (data) => {
    errors += data
  })
  expect(await once(child, 'exit')).toEqual([0, null])
  expect(errors).toBe('')
})
