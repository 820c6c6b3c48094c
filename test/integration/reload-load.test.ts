import { once } from 'node:events'
import { renameSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts'
import { ROOT_TOKEN, type RunningGateway, startGateway } from '../support/gateway.ts'
import { type OpenLoadResult, runOpenLoad } from '../support/open-load.ts'

/**
 * Reloads while requests come at a fixed rate, none of which is ever repeated.
 *
 *   DRIPGATE_RELOADS=20 DRIPGATE_RELOAD_REQUESTS=50000 DRIPGATE_SLOW=2000
 */
const RELOADS = Number(process.env['DRIPGATE_RELOADS'] ?? 3)
const REQUESTS = Number(process.env['DRIPGATE_RELOAD_REQUESTS'] ?? 5_000)
const SLOW_CLIENTS = Number(process.env['DRIPGATE_SLOW'] ?? 200)
const PER_SECOND = 1_000
const DURATION_MS = (1000 * REQUESTS) / PER_SECOND
const BUCKET = 10_000_000

let undo: (() => unknown)[] = []

afterEach(async () => {
  for (const step of undo.reverse()) await step()
  undo = []
})

async function start(
  engine: string,
): Promise<{ gateway: RunningGateway; token: string; load: () => Promise<OpenLoadResult> }> {
  const upstream = await startEchoUpstream()
  undo.push(upstream.close)
  const sockets = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  sockets.on('connection', (socket) => socket.on('message', (text) => socket.send(String(text))))
  undo.push(() => sockets.close())
  await once(sockets, 'listening')
  const { port } = sockets.address() as { port: number }
  const gateway = await startGateway({ config: configOf(upstream, port, engine, 0) })
  undo.push(gateway.kill)
  const { body } = await gateway.rpc('keys.create', { ksid: 'ks_a' })
  const { token } = body as { token: string }
  let version = 0
  const headers = { authorization: `Bearer ${token}` }
  const load = async () => {
    const timer = setInterval(
      async () => {
        if (version >= RELOADS) return
        version++
        writeFileSync(`${gateway.configFile}.new`, JSON.stringify(configOf(upstream, port, engine, version)))
        renameSync(`${gateway.configFile}.new`, gateway.configFile)
        if (version % 2 === 0) gateway.signal('SIGHUP')
        else await gateway.rpc('config.reload')
      },
      DURATION_MS / (RELOADS + 1),
    )
    undo.push(() => clearInterval(timer))
    const options = { origin: gateway.gatewayUrl, path: '/keyed', headers }
    const result = await runOpenLoad({ ...options, perSecond: PER_SECOND, count: REQUESTS })
    console.log(`${engine}: ${RELOADS} reloads, ${JSON.stringify(result)}`)
    expect(version).toBe(RELOADS)
    const reloads = () => gateway.lines.filter((line) => line['msg'] === 'configuration reloaded').length
    await expect.poll(reloads, { timeout: 10_000 }).toBe(RELOADS)
    return result
  }
  return { gateway, token, load }
}

/** Each version changes the routes, an upstream and a setting of the listener. */
function configOf(upstream: EchoUpstream, socketPort: number, engine: string, version: number) {
  const targets = [upstream.url]
  return {
    gateway: {
      listen: '127.0.0.1:0',
      workers: 2,
      engine,
      max_target_bytes: 8192 + version,
      timeouts: { headers: '3s' },
    },
    admin: { listen: '127.0.0.1:0', root_token: ROOT_TOKEN },
    store: { path: './data' },
    upstreams: {
      echo: { targets, timeouts: { response: 15_000 + version } },
      sockets: { targets: [`http://127.0.0.1:${socketPort}`] },
    },
    keyspaces: [{ ksid: 'ks_a', name: 'a', keys_prefix: 'a_', ratelimit: { limit: BUCKET } }],
    routes: [
      { name: `v${version}`, match: { path: `/v${version}` }, upstream: 'echo' },
      { name: 'keyed', match: { path: '/keyed' }, keyspace: 'ks_a', upstream: 'echo' },
      { name: 'sockets', match: { path: '/sockets' }, upstream: 'sockets' },
    ],
  }
}

describe.each(['raw', 'node'])('reloads under load, %s engine', (engine) => {
  it(
    'lose no request, no connection, no token of a bucket and no WebSocket',
    async () => {
      const { gateway, token, load } = await start(engine)
      const socket = new WebSocket(`${gateway.gatewayUrl.replace('http', 'ws')}/sockets`)
      undo.push(() => socket.terminate())
      await new Promise((resolve) => socket.once('open', resolve))
      const result = await load()
      expect(result).toMatchObject({ sent: REQUESTS, succeeded: REQUESTS, failures: {} })
      expect(result.connections).toBeLessThanOrEqual(64)
      const { body } = await gateway.rpc('keys.get', { ksid: 'ks_a', token })
      expect(body).toMatchObject({ ratelimit: { state: { remaining: BUCKET - REQUESTS } } })
      const echo = new Promise((resolve) => socket.once('message', (text) => resolve(String(text))))
      socket.send('still here')
      expect(await echo).toBe('still here')
      expect(await (await fetch(`${gateway.gatewayUrl}/v${RELOADS}`)).status).toBe(200)
    },
    DURATION_MS + 120_000,
  )
})

describe('reloads under load beside slow clients', () => {
  it(
    'lose no request of the others, while the slow ones are cut off in time',
    async () => {
      const { gateway, load } = await start('raw')
      const port = Number(new URL(gateway.gatewayUrl).port)
      const slow = keepSlowClients(port, SLOW_CLIENTS)
      undo.push(slow.stop)
      await expect.poll(slow.open, { timeout: 60_000 }).toBeGreaterThanOrEqual(SLOW_CLIENTS)
      const result = await load()
      expect(result).toMatchObject({ sent: REQUESTS, succeeded: REQUESTS, failures: {} })
      expect(slow.answers()).toEqual(new Set(['408']))
      expect(slow.open()).toBeGreaterThan(SLOW_CLIENTS / 2)
    },
    DURATION_MS + 120_000,
  )
})

/** Connections that send a head byte by byte, each one opened anew when it is cut off. */
function keepSlowClients(port: number, count: number) {
  const open = new Set<Socket>()
  const answers = new Set<string>()
  let isStopped = false
  const dial = (): void => {
    if (isStopped) return
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => {})
    socket.on('data', (answer) => answers.add(answer.toString('latin1').split(' ')[1] ?? ''))
    socket.once('connect', () => {
      open.add(socket)
      socket.write('GET /keyed HTTP/1.1\r\nHost: a\r\nX-Slow: ')
    })
    socket.once('close', () => {
      open.delete(socket)
      setImmediate(dial)
    })
  }
  for (let n = 0; n < count; n++) dial()
  const drip = setInterval(() => {
    for (const socket of open) socket.write('x')
  }, 1000)
  return {
    open: () => open.size,
    answers: () => answers,
    stop: () => {
      isStopped = true
      clearInterval(drip)
      for (const socket of open) socket.destroy()
    },
  }
}
