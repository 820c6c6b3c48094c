import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import {
  findFreePort,
  findProgram,
  type Pinned,
  readCpuUs,
  spawnPinned,
  untilListening,
} from './processes.ts'

/**
 * `npm run bench -- cache [SECONDS]`: answers of 1 KiB from the cache and from the upstream, through
 * the gateway and through nginx, each with one worker on one core and no limits.
 */

const ROOT = path.resolve(import.meta.dirname, '../..')
const CONNECTIONS = 64

export async function benchCache(seconds = 8): Promise<void> {
  const [nginx, wrk] = [findProgram('nginx'), findProgram('wrk')]
  if (nginx === undefined || wrk === undefined) throw new Error('nginx and wrk are needed')
  const dir = mkdtempSync(path.join(tmpdir(), 'dripgate-bench-'))
  const running: Pinned[] = []
  const start = async (port: number, command: readonly string[], cores = '0'): Promise<Pinned> => {
    const pinned = spawnPinned(cores, command, { cwd: dir })
    running.push(pinned)
    await untilListening(port)
    return pinned
  }
  try {
    const originPort = await findFreePort()
    const origin = `return 200 "${'x'.repeat(1024)}";`
    const originFile = writeNginx(
      dir,
      'origin',
      originPort,
      `location / { add_header Cache-Control "public, max-age=3600"; ${origin} }`,
    )
    await start(originPort, [nginx, '-p', dir, '-c', originFile], '1')

    const ownPort = await findFreePort()
    const ownFile = path.join(dir, 'gateway.yaml')
    const route = (name: string, cache: object) => ({
      name,
      match: { path: `/${name}` },
      upstream: 'origin',
      ...cache,
    })
    const config = {
      gateway: { listen: `127.0.0.1:${ownPort}`, workers: 1 },
      admin: { listen: `127.0.0.1:${await findFreePort()}` },
      store: { path: path.join(dir, 'data') },
      upstreams: { origin: { targets: [`http://127.0.0.1:${originPort}`] } },
      routes: [route('hit', { cache: {} }), route('miss', {})],
    }
    writeFileSync(ownFile, JSON.stringify(config))
    const launcher = path.join(ROOT, 'bin/dripgate.mjs')
    const own = await start(ownPort, [process.execPath, launcher, 'serve', '--config', ownFile])

    const peerPort = await findFreePort()
    const pass = `proxy_pass http://target; proxy_http_version 1.1; proxy_set_header Connection "";`
    const peerFile = writeNginx(
      dir,
      'peer',
      peerPort,
      `location /hit { ${pass} proxy_cache main; } location /miss { ${pass} }`,
      `proxy_cache_path ${dir}/cache keys_zone=main:8m; upstream target { server 127.0.0.1:${originPort}; keepalive 128; keepalive_requests 100000000; }`,
    )
    const peer = await start(peerPort, [nginx, '-p', dir, '-c', peerFile])

    process.stdout.write('candidate        per second   µs of CPU each\n')
    for (const [name, pinned, port] of [
      ['dripgate', own, ownPort],
      ['nginx', peer, peerPort],
    ] as const) {
      for (const target of ['hit', 'miss']) {
        const url = `http://127.0.0.1:${port}/${target}`
        load(wrk, url, 3)
        const cpuBefore = readCpuUs(pinned.pid)
        const { requests, perSecond } = load(wrk, url, seconds)
        const cpuUs = (readCpuUs(pinned.pid) - cpuBefore) / requests
        const title = `${name} ${target}`.padEnd(16)
        process.stdout.write(
          `${title} ${perSecond.toFixed(0).padStart(10)} ${cpuUs.toFixed(1).padStart(16)}\n`,
        )
      }
    }
  } finally {
    for (const pinned of running) await pinned.stop()
    rmSync(dir, { recursive: true, force: true })
  }
}

function load(wrk: string, url: string, seconds: number): { requests: number; perSecond: number } {
  const command = ['-c', '1', wrk, '-t1', `-c${CONNECTIONS}`, `-d${seconds}s`, url]
  const text = execFileSync('taskset', command, { encoding: 'utf8' })
  const requests = Number(/(\d+) requests in/.exec(text)?.[1])
  if (!(requests > 0) || /Non-2xx/.test(text)) throw new Error(`the load failed:\n${text}`)
  return { requests, perSecond: Number(/Requests\/sec:\s*([\d.]+)/.exec(text)?.[1]) }
}

function writeNginx(dir: string, name: string, port: number, locations: string, http = ''): string {
  const file = path.join(dir, `${name}.conf`)
  const user = process.getuid?.() === 0 ? 'user root;' : ''
  const places = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  writeFileSync(
    file,
    `${user} worker_processes 1; daemon off; pid ${dir}/${name}.pid; error_log stderr crit;
events { worker_connections 10000; }
http {
  ${places.map((place) => `${place}_temp_path ${dir}/${name}-${place};`).join(' ')}
  access_log off; keepalive_requests 100000000; ${http}
  server { listen 127.0.0.1:${port}; ${locations} }
}`,
  )
  return file
}
