import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { createLogger } from '../../src/telemetry/logger.ts'

const MODULE = new URL('../../src/telemetry/logger.ts', import.meta.url).href

let directory: string
let fd: number

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'dripgate-logger-'))
  fd = openSync(path.join(directory, 'log'), 'a')
})

afterEach(() => {
  closeSync(fd)
  rmSync(directory, { recursive: true, force: true })
})

function text(): string {
  return readFileSync(path.join(directory, 'log'), 'utf8')
}

function lines(): Record<string, unknown>[] {
  return text()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
}

it('writes one JSON line a call, at once, with time, level, message and thread', () => {
  const log = createLogger({ fd, thread: 'data-plane-1' })
  log.info('ready', { gateway: 'http://127.0.0.1:8080' })
  const [line] = lines()
  expect(line).toMatchObject({ level: 'info', msg: 'ready', thread: 'data-plane-1' })
  expect(line).toMatchObject({ gateway: 'http://127.0.0.1:8080' })
  expect(line?.['time']).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
})

it('writes only what is as grave as its level', () => {
  const log = createLogger({ fd, level: 'warn' })
  log.debug('a')
  log.info('b')
  log.warn('c')
  log.error('d')
  expect(lines().map(({ level, msg }) => `${level} ${msg}`)).toEqual(['warn c', 'error d'])
})

it('redacts by field name, in any spelling and at any depth', () => {
  const log = createLogger({ fd })
  const secret = 'planted-secret'
  log.info('planted', {
    token: secret,
    root_token: secret,
    rootToken: secret,
    Authorization: secret,
    'proxy-authorization': secret,
    cookie: [secret],
    headers: { 'Set-Cookie': secret, 'X-API-KEY': secret, accept: 'kept' },
    nested: [{ deeper: { password: secret, clientSecret: { value: secret } } }],
    map: new Map([['api_key', secret]]),
    url: `redis://user:${secret}@127.0.0.1:6379/0`,
    tokenHash: 'kept',
  })
  log.error('failed', {
    error: new Error(`connecting to redis://:${secret}@host`, { cause: { token: secret } }),
  })
  expect(text()).not.toContain(secret)
  expect(lines()[0]).toMatchObject({ tokenHash: 'kept', headers: { accept: 'kept' }, token: '[redacted]' })
})

it('keeps lines whole and terminals safe, whatever the fields hold', () => {
  const log = createLogger({ fd })
  const hostile = 'a\r\nb\u001b[2J\u009b31m\u2028\u202e"\\\ud800\u0000'
  log.info('hostile', { hostile, [hostile]: 1 })
  expect(text().slice(0, -1)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u202e]/)
  expect(text().match(/\n/g)).toHaveLength(1)
  expect(lines()[0]?.['hostile']).toBe(hostile)
})

it('does not let a field pass itself off as the time, the level or the message', () => {
  const log = createLogger({ fd })
  log.error('real', { level: 'info', msg: 'forged', time: 'never' })
  expect(lines()[0]).toMatchObject({ level: 'error', msg: 'real', level_: 'info', msg_: 'forged' })
})

it('logs errors with their causes, cycles and odd values without failing', () => {
  const log = createLogger({ fd })
  const cycle: Record<string, unknown> = {
    big: 1n,
    run: () => 1,
    when: new Date(Number.NaN),
    bytes: Buffer.alloc(3),
  }
  cycle['self'] = cycle
  log.error('odd', {
    error: new TypeError('outer', { cause: new RangeError('inner') }),
    cycle,
    set: new Set([1]),
  })
  expect(lines()[0]).toMatchObject({
    error: { type: 'TypeError', message: 'outer', cause: { type: 'RangeError', message: 'inner' } },
    cycle: { big: '1', run: '[function]', when: null, bytes: '[3 bytes]' },
    set: [1],
  })
})

function runScript(body: string) {
  const script = `const { createLogger } = await import(${JSON.stringify(MODULE)}); const log = createLogger();${body}`
  return spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'pipe'] })
}

it('loses no line when the process ends at once, to a pipe', async () => {
  const child = runScript(`for (let i = 0; i < 200; i++) log.info('line', { i }); process.exit(3)`)
  let output = ''
  child.stdout.on('data', (data) => {
    output += data
  })
  expect(await once(child, 'close')).toEqual([3, null])
  expect(
    output
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).i),
  ).toEqual([...Array(200).keys()])
})

it('is not stopped by a reader that reads nothing, nor by one that left', async () => {
  const flood = `for (let i = 0; i < 5000; i++) log.info('line', { filler: 'x'.repeat(1000) });`
  const stalled = runScript(`${flood} console.error('done'); process.exit(0)`)
  expect(await once(stalled, 'exit')).toEqual([0, null])

  const left = runScript(`process.stdin; setTimeout(() => { ${flood} process.exit(0) }, 50)`)
  left.stdout.destroy()
  expect(await once(left, 'exit')).toEqual([0, null])
})
