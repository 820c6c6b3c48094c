import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { findFreePort, findProgram, untilListening } from '../bench/processes.ts'

/**
 * `npm run conformance`: the public suite of tests for HTTP caches (http-tests/cache-tests) through
 * the gateway, and through nginx and Varnish where they are installed, on one machine. Prints a
 * table, and writes docs/cache-conformance.md with `--write`. Fails where the gateway fails a
 * required test that nginx passes.
 */

const VERSION = '0.4.5'
const ROOT = path.resolve(import.meta.dirname, '../..')
const CACHE = path.join(ROOT, 'node_modules/.cache/http-cache-tests')
const SUITE = path.join(CACHE, 'package')

interface Report {
  readonly suites: readonly {
    readonly id: string
    readonly name: string
    readonly tests: readonly { readonly id: string; readonly name: string; readonly kind?: string }[]
  }[]
  /** `true`, or what went wrong. */
  readonly results: Readonly<Record<string, true | readonly [kind: string, text: string]>>
}

interface Candidate {
  readonly name: string
  /** `undefined` where it is not installed. */
  readonly report: Report | undefined
}

const running = new Set<ChildProcess>()
const dir = mkdtempSync(path.join(tmpdir(), 'dripgate-conformance-'))
try {
  fetchSuite()
  const originPort = await findFreePort()
  launch(process.execPath, [path.join(SUITE, 'server/server.mjs')], {
    npm_config_protocol: 'http',
    npm_config_port: String(originPort),
    npm_config_pidfile: path.join(dir, 'origin.pid'),
  })
  await untilListening(originPort)
  const candidates: Candidate[] = []
  for (const [name, start] of Object.entries({
    Dripgate: startGateway,
    nginx: startNginx,
    Varnish: startVarnish,
  })) {
    candidates.push({ name, report: await measure(start, originPort) })
  }
  const text = render(candidates)
  process.stdout.write(text)
  if (process.argv.includes('--write')) writeFileSync(path.join(ROOT, 'docs/cache-conformance.md'), text)
  const behind = listBehind(candidates)
  for (const id of behind) process.stderr.write(`required, and passed by nginx but not here: ${id}\n`)
  if (behind.length > 0) process.exitCode = 1
} finally {
  for (const child of running) child.kill('SIGTERM')
  rmSync(dir, { recursive: true, force: true })
}

/** The package drags an old npm in, so it is no dependency: only its files are used. */
function fetchSuite(): void {
  if (existsSync(path.join(SUITE, 'package.json'))) return
  mkdirSync(CACHE, { recursive: true })
  execFileSync('npm', ['pack', `http-cache-tests@${VERSION}`, '--silent'], { cwd: CACHE })
  execFileSync('tar', ['xzf', `http-cache-tests-${VERSION}.tgz`], { cwd: CACHE })
}

type Start = (port: number, originPort: number) => ChildProcess | undefined

async function measure(start: Start, originPort: number): Promise<Report | undefined> {
  const port = await findFreePort()
  const child = start(port, originPort)
  if (child === undefined) return undefined
  await untilListening(port)
  const client = path.join(import.meta.dirname, 'cache-client.ts')
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [client, SUITE, `http://127.0.0.1:${port}`],
    { maxBuffer: 64 * 1024 ** 2 },
  )
  // Not at once: then the workers of nginx and Varnish would stay behind.
  child.kill('SIGTERM')
  running.delete(child)
  return JSON.parse(stdout) as Report
}

function startGateway(port: number, originPort: number): ChildProcess {
  const file = path.join(dir, 'gateway.yaml')
  const config = {
    gateway: { listen: `127.0.0.1:${port}`, workers: 1 },
    admin: { listen: '127.0.0.1:0' },
    store: { path: path.join(dir, 'data') },
    upstreams: { origin: { targets: [`http://127.0.0.1:${originPort}`] } },
    routes: [{ name: 'all', upstream: 'origin', cache: {} }],
  }
  writeFileSync(file, JSON.stringify(config))
  return launch(process.execPath, [path.join(ROOT, 'bin/dripgate.mjs'), 'serve', '--config', file])
}

function startNginx(port: number, originPort: number): ChildProcess | undefined {
  const nginx = findProgram('nginx')
  if (nginx === undefined) return undefined
  const file = path.join(dir, 'nginx.conf')
  writeFileSync(
    file,
    `${process.getuid?.() === 0 ? 'user root;' : ''} daemon off; worker_processes 1; error_log stderr crit; pid ${dir}/nginx.pid;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path ${dir}/body; proxy_temp_path ${dir}/proxy; fastcgi_temp_path ${dir}/f; uwsgi_temp_path ${dir}/u; scgi_temp_path ${dir}/s;
  proxy_cache_path ${dir}/cache levels=1:2 keys_zone=main:8m max_size=1000m inactive=600m;
  server {
    listen 127.0.0.1:${port};
    location / { proxy_pass http://127.0.0.1:${originPort}; proxy_cache main; proxy_cache_revalidate on; }
  }
}`,
  )
  return launch(nginx, ['-p', dir, '-c', file])
}

function startVarnish(port: number, originPort: number): ChildProcess | undefined {
  const varnishd = findProgram('varnishd')
  if (varnishd === undefined) return undefined
  const name = path.join(dir, 'varnish')
  return launch(varnishd, ['-F', '-n', name, '-a', `127.0.0.1:${port}`, '-b', `127.0.0.1:${originPort}`])
}

function launch(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  const child = spawn(program, args, {
    cwd: dir,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  child.on('error', (error) => process.stderr.write(`${program}: ${error.message}\n`))
  running.add(child)
  return child
}

function listBehind(candidates: readonly Candidate[]): string[] {
  const own = candidates.find(({ name }) => name === 'Dripgate')?.report
  const nginx = candidates.find(({ name }) => name === 'nginx')?.report
  if (own === undefined || nginx === undefined) return []
  return own.suites
    .flatMap(({ tests }) => tests)
    .filter(({ kind = 'required' }) => kind === 'required')
    .filter(({ id }) => isFailed(own.results[id]) && nginx.results[id] === true)
    .map(({ id }) => id)
}

/** What the suite could not get as far as to is not tested. */
function isFailed(result: Report['results'][string] | undefined): boolean {
  return result !== undefined && result !== true && result[0] !== 'Setup'
}

function render(candidates: readonly Candidate[]): string {
  const reference = candidates[0]?.report
  const kinds = ['required', 'optimal', 'check']
  const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |\n`
  const names = candidates.map(({ name, report }) =>
    report === undefined ? `${name} (not installed)` : name,
  )
  let text = `# Conformance of the response cache

The public suite [http-tests/cache-tests](https://github.com/http-tests/cache-tests) ${VERSION}, run by
\`npm run conformance -- --write\` through each of these on one machine: Dripgate with \`cache: {}\` on an
open route, nginx with \`proxy_cache\` and \`proxy_cache_revalidate on\`, Varnish with its built-in rules.
A *required* test is what RFC 9111 demands, *optimal* is what it permits and users like, *check*
only tells what a cache does; *not tested* means that the suite could not get so far.

On purpose: answers with \`Set-Cookie\` are not stored, lifetimes are never guessed, ranges are passed
through, and an answer with an unknown \`Transfer-Encoding\` is refused. The tests \`stale-close-*\` count
the gateway's own 502 as an answer from a cache.

`
  text += row(['passed', ...names]) + row(['---', ...names.map(() => '---:')])
  for (const kind of kinds) {
    const tests = (reference?.suites ?? [])
      .flatMap(({ tests }) => tests)
      .filter((test) => (test.kind ?? 'required') === kind)
    text += row([kind, ...candidates.map(({ report }) => countPassed(report, tests))])
  }
  for (const suite of reference?.suites ?? []) {
    text += `\n## ${suite.name}\n\n`
    text += row(['test', 'kind', ...names]) + row(['---', '---', ...names.map(() => '---')])
    for (const { id, kind = 'required' } of suite.tests) {
      if (!candidates.some(({ report }) => report !== undefined && id in report.results)) continue
      text += row([`\`${id}\``, kind, ...candidates.map(({ report }) => toMark(report?.results[id], kind))])
    }
  }
  return text
}

function countPassed(report: Report | undefined, tests: readonly { readonly id: string }[]): string {
  if (report === undefined) return '-'
  const run = tests.filter(({ id }) => id in report.results)
  return `${run.filter(({ id }) => report.results[id] === true).length} of ${run.length}`
}

function toMark(result: Report['results'][string] | undefined, kind: string): string {
  if (result === undefined) return '-'
  if (result === true) return 'yes'
  // The suite could not get as far as to what it tests.
  if (result[0] === 'Setup') return 'not tested'
  return kind === 'required' ? '**no**' : 'no'
}
