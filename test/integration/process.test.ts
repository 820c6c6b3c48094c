import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startEchoUpstream } from '../support/echo-upstream.ts'
import { createTempDirectory } from '../support/embedded-store.ts'
import { ROOT_TOKEN, type RunningGateway, startGateway } from '../support/gateway.ts'

/** The command line, signals and exit codes of contract section 2, on real processes. */

const LAUNCHER = path.resolve(import.meta.dirname, '../../bin/dripgate.mjs')

interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const base = (targets: string[]) => ({
  upstreams: { echo: { targets } },
  keyspaces: [{ ksid: 'ks_p', name: 'p', keys_prefix: 'p_' }],
  routes: [
    { name: 'open', match: { path: '/open' }, upstream: 'echo' },
    { name: 'keyed', match: { path: '/keyed' }, keyspace: 'ks_p', upstream: 'echo' },
  ],
})

describe('the command line', () => {
  let directory: string
  let removeDirectory: () => void
  let children: ChildProcess[]

  beforeEach(() => {
    const temp = createTempDirectory()
    directory = temp.directory
    removeDirectory = temp.remove
    children = []
  })
  afterEach(() => {
    for (const child of children) child.kill('SIGKILL')
    removeDirectory()
  })

  function run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> {
    return new Promise((resolve) => {
      const options = {
        cwd: directory,
        env: { ...process.env, ROOT_TOKEN, DIR: directory, ...env },
        timeout: 15_000,
      }
      execFile(process.execPath, [LAUNCHER, ...args], options, (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr })
      })
    })
  }
  function writeConfig(text: string): string {
    const file = path.join(directory, 'gateway.yaml')
    writeFileSync(file, text)
    return file
  }

  it('explains itself', async () => {
    const help = await run(['help'])
    expect(help.code).toBe(0)
    for (const word of ['serve', 'check', 'schema', 'service-keys create', 'demo', 'health'])
      expect(help.stdout).toContain(word)
    expect((await run(['--help'])).stdout).toBe(help.stdout)
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
    expect(await run(['version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' })
  })

  it.each([
    [['sreve'], 'unknown command "sreve"'],
    [['serve', 'now'], 'unknown command "serve now"'],
    [['serve', '--confg', 'x'], '--confg'],
    [['service-keys'], 'unknown command "service-keys"'],
  ])('answers %j with exit code 2 and what is wrong', async (args, message) => {
    const { code, stderr, stdout } = await run(args)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain(message)
    expect(stderr).toContain('dripgate help')
  })

  it('checks a configuration without running it, and names every problem with its place', async () => {
    const good = writeConfig(
      'upstreams: { a: { targets: ["http://127.0.0.1:9000"] } }\nroutes: [{ upstream: a }]\n',
    )
    expect((await run(['check', '--config', good])).code).toBe(0)
    expect(await run(['check'], { DRIPGATE_CONFIG: good })).toMatchObject({ code: 0 })
    const bad = writeConfig(
      'upstreams:\n  a: { targets: ["http://127.0.0.1:9000"] }\nroutes:\n  - upstrem: a\n  - upstream: b\n',
    )
    const { code, stderr } = await run(['check', '-c', bad])
    expect(code).toBe(78)
    expect(stderr).toContain(`${bad}:4:5:`)
    expect(stderr).toContain('upstream')
    expect(stderr).toMatch(new RegExp(`${bad}:5:\\d+:`))
    expect((await run(['serve', '--config', bad])).code).toBe(78)
    const missing = await run(['check', '--config', path.join(directory, 'nowhere.yaml')])
    expect(missing).toMatchObject({ code: 78, stderr: expect.stringContaining('nowhere.yaml') })
  })

  it('prints the JSON Schema that is in the repository', async () => {
    const { code, stdout } = await run(['schema'])
    expect(code).toBe(0)
    const committed = readFileSync(new URL('../../config/gateway.schema.json', import.meta.url), 'utf8')
    expect(JSON.parse(stdout)).toEqual(JSON.parse(committed))
  })

  it('refuses a second gateway on the same store, and names the first', async () => {
    await using first = await startGateway({ config: base(['http://127.0.0.1:9']), dir: directory })
    const second = writeConfig(
      JSON.stringify({
        ...base(['http://127.0.0.1:9']),
        gateway: { listen: '127.0.0.1:0' },
        admin: { listen: '127.0.0.1:0' },
      }),
    )
    const { code, stderr } = await run(['serve', '--config', second])
    expect(code).toBe(1)
    expect(stderr).toMatch(
      new RegExp(`^dripgate: the store directory .*data is in use by process ${first.pid} on `),
    )
    expect((await first.rpc('serviceKeys.current')).status).toBe(200)
  })

  it.each([
    [
      'gateway.listen',
      (taken: string) => ({ gateway: { listen: taken, workers: 2 }, admin: { listen: '127.0.0.1:0' } }),
    ],
    [
      'gateway.listen',
      (taken: string) => ({ gateway: { listen: taken, workers: 1 }, admin: { listen: '127.0.0.1:0' } }),
    ],
    ['admin', (taken: string) => ({ gateway: { listen: '127.0.0.1:0' }, admin: { listen: taken } })],
  ])('says that the port of %s is taken, and exits 1', async (name, listeners) => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    const taken = `127.0.0.1:${typeof address === 'object' ? address?.port : 0}`
    const file = writeConfig(JSON.stringify({ ...base(['http://127.0.0.1:9']), ...listeners(taken) }))
    const { code, stderr } = await run(['serve', '--config', file])
    server.close()
    expect(code).toBe(1)
    expect(stderr).toContain(name)
    expect(stderr).toContain(taken)
    expect(stderr).not.toMatch(/\n\s+at /)
  })

  it('mints a service key while the gateway runs, and while it does not', async () => {
    const mint = (config: string) =>
      run([
        ...'service-keys create --admin --role SCRIPT --description'.split(' '),
        'for the test',
        '--config',
        config,
      ])
    const gateway = await startGateway({ config: base(['http://127.0.0.1:9']), dir: directory })
    const whileRunning = await mint(gateway.configFile)
    expect(whileRunning).toMatchObject({ code: 0, stdout: expect.stringMatching(/^sk_[A-Za-z0-9_-]{43}\n$/) })
    const current = await gateway.rpc('serviceKeys.current', {}, whileRunning.stdout.trim())
    expect(current).toMatchObject({
      status: 200,
      body: { admin: true, roles: ['SCRIPT'], description: 'for the test' },
    })
    await gateway.stop()
    const whileStopped = await mint(gateway.configFile)
    await using again = await startGateway({ config: base(['http://127.0.0.1:9']), dir: directory })
    for (const { stdout } of [whileRunning, whileStopped]) {
      expect((await again.rpc('serviceKeys.current', {}, stdout.trim())).status).toBe(200)
    }
  })

  it('tells by its exit code whether the gateway is ready', async () => {
    await using gateway = await startGateway({ config: base(['http://127.0.0.1:9']) })
    const listen = new URL(gateway.adminUrl).host
    const file = writeConfig(JSON.stringify({ ...base(['http://127.0.0.1:9']), admin: { listen } }))
    expect(await run(['health', '--config', file])).toEqual({ code: 0, stdout: 'ready\n', stderr: '' })
    await gateway.kill()
    expect(await run(['health', '--config', file])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(listen),
    })
  })

  it('runs a demo whose printed lines work', async () => {
    const child = spawn(process.execPath, [LAUNCHER, 'demo'], {
      cwd: directory,
      env: { ...process.env, DRIPGATE_LISTEN: '127.0.0.1:0', DRIPGATE_ADMIN_LISTEN: '127.0.0.1:0' },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    children.push(child)
    let printed = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (printed += text))
    while (!printed.includes('Ctrl-C')) await once(child.stdout, 'data')
    const lines = printed.split('\n').map((line) => line.trim())
    const sh = (line: string) =>
      new Promise<string>((resolve, reject) => {
        execFile('sh', ['-c', line], (error, stdout) => (error === null ? resolve(stdout) : reject(error)))
      })
    const loop = await sh(lines.find((line) => line.startsWith('for i in')) ?? 'exit 1')
    expect(loop.trim().split('\n')).toEqual(['200', '200', '200', '200', '200', '429', '429', '429'])
    const open = await sh(lines.find((line) => line.startsWith('curl') && line.endsWith('/open')) ?? 'exit 1')
    expect(open).toMatch(/^HTTP\/1.1 200 OK\r\n[\s\S]*hello/)
    const created = JSON.parse(await sh(lines.find((line) => line.endsWith('keys.create')) ?? 'exit 1'))
    expect(created).toMatchObject({ ksid: 'ks_demo', ratelimit: { limit: 5 } })
    child.kill('SIGINT')
    const [code] = await once(child, 'exit')
    expect(code).toBe(0)
  })
})

describe('signals', () => {
  let gateway: RunningGateway
  let upstream: Awaited<ReturnType<typeof startEchoUpstream>>

  beforeEach(async () => {
    upstream = await startEchoUpstream()
  })
  afterEach(async () => {
    await gateway?.kill()
    await upstream.close()
  })

  const get = async (route: string) =>
    (await fetch(gateway.gatewayUrl + route, { signal: AbortSignal.timeout(5_000) })).status
  const metric = async (name: string) => {
    const text = await (await fetch(`${gateway.adminUrl}/metrics`)).text()
    return text
      .split('\n')
      .find((line) => line.startsWith(`${name} `))
      ?.slice(name.length + 1)
  }

  it('SIGTERM fails readiness first, finishes what runs, and exits 0', async () => {
    gateway = await startGateway({
      config: { ...base([upstream.url]), gateway: { listen: '127.0.0.1:0', shutdown_delay: 400 } },
    })
    const { port } = new URL(gateway.gatewayUrl)
    const slow = connect(Number(port), '127.0.0.1')
    let answer = ''
    slow.setEncoding('utf8').on('data', (text: string) => (answer += text))
    await once(slow, 'connect')
    slow.write('POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345')
    while (upstream.received() === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    gateway.signal('SIGTERM')
    await gateway.waitForLine('stopping')
    const ready = await fetch(`${gateway.adminUrl}/readyz`)
    expect(ready.status).toBe(503)
    const during = await fetch(`${gateway.gatewayUrl}/open`)
    expect([during.status, during.headers.get('connection')]).toEqual([200, 'close'])
    await new Promise((resolve) => setTimeout(resolve, 600))
    slow.write('67890')
    await once(slow, 'close')
    expect(answer).toMatch(/^HTTP\/1.1 200 OK\r\n/)
    expect(answer).toContain('"bodyBytes":10')
    expect(await gateway.exit).toEqual({ code: 0, signal: null })
  })

  it.each([
    { second: 'SIGTERM', afterMs: 200 },
    { second: 'SIGINT', afterMs: 0 },
  ] as const)('a $second after a SIGTERM ends at once', async ({ second, afterMs }) => {
    gateway = await startGateway({
      config: { ...base([upstream.url]), gateway: { listen: '127.0.0.1:0', shutdown_delay: '1m' } },
    })
    gateway.signal('SIGTERM')
    await gateway.waitForLine('stopping')
    await new Promise((resolve) => setTimeout(resolve, afterMs))
    const at = performance.now()
    gateway.signal(second)
    expect((await gateway.exit).code).toBe(1)
    expect(performance.now() - at).toBeLessThan(2_000)
  })

  it('SIGHUP swaps the configuration; a bad file changes nothing', async () => {
    gateway = await startGateway({ config: base([upstream.url]) })
    const configText = (routes: object[], limit: number) =>
      JSON.stringify({
        ...base([upstream.url]),
        gateway: { listen: '127.0.0.1:0' },
        admin: { listen: '127.0.0.1:0', root_token: ROOT_TOKEN },
        store: { path: './data' },
        keyspaces: [{ ksid: 'ks_p', name: 'p', keys_prefix: 'p_', ratelimit: { limit } }],
        routes,
      })
    expect(await get('/added')).toBe(404)
    const { body } = await gateway.rpc('keys.create', { ksid: 'ks_p' })
    writeFileSync(
      gateway.configFile,
      configText([{ name: 'added', match: { path: '/added' }, upstream: 'echo' }], 3),
    )
    gateway.signal('SIGHUP')
    await gateway.waitForLine('configuration reloaded')
    expect(await get('/added')).toBe(200)
    expect(await get('/open')).toBe(404)
    const { token } = body as { token: string }
    expect((await gateway.rpc('keys.get', { ksid: 'ks_p', token })).body).toMatchObject({
      ratelimit: { limit: 3 },
    })
    expect(await metric('dripgate_config_last_reload_successful')).toBe('1')

    writeFileSync(gateway.configFile, 'routes: [{ upstream: nowhere }')
    gateway.signal('SIGHUP')
    const line = await gateway.waitForLine('the new configuration is not valid; the old one goes on')
    expect(line).toMatchObject({
      level: 'error',
      problems: [expect.stringMatching(/gateway\.yaml:\d+:\d+: /)],
    })
    expect(await get('/added')).toBe(200)
    expect(await metric('dripgate_config_last_reload_successful')).toBe('0')
  })

  it('a launcher that is killed while the gateway starts stops it', async () => {
    const { directory, remove } = createTempDirectory()
    const file = path.join(directory, 'gateway.yaml')
    const listeners = { gateway: { listen: '127.0.0.1:0' }, admin: { listen: '127.0.0.1:0' } }
    writeFileSync(file, JSON.stringify({ ...base([upstream.url]), ...listeners }))
    const main = path.resolve(import.meta.dirname, '../../src/main.ts')
    const child = spawn(process.execPath, [main, 'serve', '--config', file], {
      cwd: directory,
      env: { ...process.env, DRIPGATE_LAUNCHER: '1' },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    child.disconnect()
    const [code] = await once(child, 'exit')
    remove()
    expect(code).toBe(0)
  })

  it('a signal that comes while the gateway starts is followed when it has started', async () => {
    const { directory, remove } = createTempDirectory()
    const file = path.join(directory, 'gateway.yaml')
    const listeners = { gateway: { listen: '127.0.0.1:0' }, admin: { listen: '127.0.0.1:0' } }
    writeFileSync(file, JSON.stringify({ ...base([upstream.url]), ...listeners }))
    const child = spawn(process.execPath, [LAUNCHER, 'serve', '--config', file], {
      cwd: directory,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let output = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      // The first line is written while the listeners are not open yet.
      if (output === '') {
        child.kill('SIGHUP')
        child.kill('SIGTERM')
      }
      output += text
    })
    const [code] = await once(child, 'exit')
    remove()
    expect(code).toBe(0)
    expect(output).toContain('"msg":"stopped"')
  })

  it('open connections are counted while they are open', async () => {
    gateway = await startGateway({ config: base([upstream.url]) })
    const { port } = new URL(gateway.gatewayUrl)
    const sockets = Array.from({ length: 7 }, () => connect(Number(port), '127.0.0.1'))
    const metricBecomes = async (value: string) => {
      const deadline = performance.now() + 5_000
      while ((await metric('dripgate_connections_open')) !== value && performance.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
      expect(await metric('dripgate_connections_open')).toBe(value)
    }
    await metricBecomes('7')
    for (const socket of sockets) socket.destroy()
    await metricBecomes('0')
  })
})
