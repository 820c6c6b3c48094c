import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

const LAUNCHER = path.resolve(import.meta.dirname, '../../bin/dripgate.mjs')
const READY_WITHIN_MS = 40_000
const STOPPED_WITHIN_MS = 15_000

export const ROOT_TOKEN = 'root-token-of-the-tests'

type LogLine = Readonly<Record<string, unknown>>

interface RpcAnswer {
  readonly status: number
  readonly headers: Headers
  /** Parsed JSON; tests say what they expect of it. */
  readonly body: unknown
}

interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** A gateway in its own process. `await using` kills it and removes its directory. */
export interface RunningGateway extends AsyncDisposable {
  readonly gatewayUrl: string
  readonly adminUrl: string
  readonly pid: number
  /** Holds the config file and the store; also the working directory. */
  readonly dir: string
  readonly configFile: string
  /** What it has logged to standard output so far. */
  readonly lines: readonly LogLine[]
  readonly stderr: () => string
  readonly exit: Promise<Exit>
  /** Calls a procedure, with the root token unless told otherwise; `null` sends none. */
  rpc(name: string, params?: unknown, token?: string | null): Promise<RpcAnswer>
  /** Resolves to the first line, past or future, that has this message. */
  waitForLine(message: string): Promise<LogLine>
  signal(signal: NodeJS.Signals): void
  /** SIGTERM; rejects unless it drains and exits with 0 in time. */
  stop(): Promise<void>
  /** SIGKILL. */
  kill(): Promise<void>
}

export interface GatewayOptions {
  /**
   * Text is used as it is. An object gets listeners on free ports of 127.0.0.1, the root token and
   * a store in `dir`, unless it says otherwise. In both, `${DIR}` and `${ROOT_TOKEN}` are set.
   */
  readonly config: string | Readonly<Record<string, unknown>>
  readonly env?: Readonly<Record<string, string>>
  readonly args?: readonly string[]
  /** Kept by the caller, for example to start again on the same store. Else temporary. */
  readonly dir?: string
}

/** Runs `dripgate serve` for real and resolves when it says that it is ready. */
export async function startGateway(options: GatewayOptions): Promise<RunningGateway> {
  const dir = options.dir ?? mkdtempSync(path.join(tmpdir(), 'dripgate-test-'))
  const configFile = path.join(dir, 'gateway.yaml')
  writeFileSync(configFile, toConfigText(options.config))
  const child = spawn(
    process.execPath,
    [LAUNCHER, 'serve', '--config', configFile, ...(options.args ?? [])],
    {
      cwd: dir,
      env: { ...process.env, DIR: dir, ROOT_TOKEN, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  const killWithTests = (): void => void child.kill('SIGKILL')
  process.once('exit', killWithTests)
  const output = collectOutput(child)
  const exit = new Promise<Exit>((resolve) => {
    child.once('close', (code, signal) => {
      process.off('exit', killWithTests)
      if (options.dir === undefined) rmSync(dir, { recursive: true, force: true })
      resolve({ code, signal })
    })
  })

  async function kill(): Promise<void> {
    child.kill('SIGKILL')
    await exit
  }

  try {
    const ready = await output.waitForLine('ready', READY_WITHIN_MS)
    const adminUrl = String(ready['admin'])
    return {
      gatewayUrl: String(ready['gateway']),
      adminUrl,
      pid: child.pid ?? -1,
      dir,
      configFile,
      lines: output.lines,
      stderr: output.stderr,
      exit,
      rpc: (name, params = {}, token = ROOT_TOKEN) => callProcedure(adminUrl, name, params, token),
      waitForLine: (message) => output.waitForLine(message, READY_WITHIN_MS),
      signal: (signal) => void child.kill(signal),
      stop: () => stopCleanly(child, exit, output.describe),
      kill,
      [Symbol.asyncDispose]: kill,
    }
  } catch (error) {
    await kill()
    throw error
  }
}

function toConfigText(config: GatewayOptions['config']): string {
  if (typeof config === 'string') return config
  return JSON.stringify({
    ...config,
    gateway: { listen: '127.0.0.1:0', ...toRecord(config['gateway']) },
    admin: { listen: '127.0.0.1:0', root_token: ROOT_TOKEN, ...toRecord(config['admin']) },
    store: config['store'] ?? { path: './data' },
  })
}

function toRecord(value: unknown): object {
  return typeof value === 'object' && value !== null ? value : {}
}

function collectOutput(child: ChildProcess) {
  const lines: LogLine[] = []
  let unfinished = ''
  let stderr = ''
  const watchers = new Set<() => void>()
  const wake = (): void => {
    for (const watcher of watchers) watcher()
    watchers.clear()
  }
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    const parts = (unfinished + text).split('\n')
    unfinished = parts.pop() ?? ''
    for (const part of parts) lines.push(parseLine(part))
    wake()
  })
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  child.once('close', wake)
  child.once('error', wake)

  const describe = (): string => `${lines.map((line) => JSON.stringify(line)).join('\n')}\n${stderr}`
  const hasEnded = (): boolean =>
    child.exitCode !== null || child.signalCode !== null || child.pid === undefined

  async function waitForLine(message: string, withinMs: number): Promise<LogLine> {
    const timeout = AbortSignal.timeout(withinMs)
    for (;;) {
      const found = lines.find((line) => line['msg'] === message)
      if (found !== undefined) return found
      if (hasEnded()) throw new Error(`the gateway ended without saying "${message}":\n${describe()}`)
      if (timeout.aborted) throw new Error(`the gateway did not say "${message}":\n${describe()}`)
      await new Promise<void>((resolve) => {
        watchers.add(resolve)
        timeout.addEventListener('abort', () => resolve(), { once: true })
      })
    }
  }
  return { lines, stderr: () => stderr, describe, waitForLine }
}

/** What is no JSON (a stack trace, say) is kept under `text`. */
function parseLine(text: string): LogLine {
  try {
    return toRecord(JSON.parse(text)) as LogLine
  } catch {
    return { text }
  }
}

async function callProcedure(
  adminUrl: string,
  name: string,
  params: unknown,
  token: string | null,
): Promise<RpcAnswer> {
  const headers: Record<string, string> = { 'content-type': 'application/json' }
  if (token !== null) headers['authorization'] = `Bearer ${token}`
  const answer = await fetch(`${adminUrl}/v1/${name}`, {
    method: 'POST',
    headers,
    body: JSON.stringify(params),
    signal: AbortSignal.timeout(10_000),
  })
  const text = await answer.text()
  return { status: answer.status, headers: answer.headers, body: text === '' ? undefined : JSON.parse(text) }
}

async function stopCleanly(child: ChildProcess, exit: Promise<Exit>, describe: () => string): Promise<void> {
  child.kill('SIGTERM')
  const late = setTimeout(() => child.kill('SIGKILL'), STOPPED_WITHIN_MS)
  const { code, signal } = await exit
  clearTimeout(late)
  if (code !== 0) throw new Error(`the gateway ended with ${code ?? signal}:\n${describe()}`)
}
