import { describe, expect, it } from 'vitest'
import { useCleanup } from '../support/cleanup.ts'
import { startDnsServer } from '../support/dns-server.ts'
import { type FickleTarget, startFickleTarget } from '../support/fickle-target.ts'
import { type InProcessGateway, startInProcess, until } from '../support/in-process.ts'
import { CA_FILE, TEST_TLS } from '../support/test-tls.ts'
import { startHttpsUpstream, startHttpUpstream } from '../support/upstreams.ts'

/** What the control thread finds out about targets, and how the data-plane threads go by it. */

const CHECK = { path: '/health', interval: '50ms', timeout: '200ms' }
const ROUTES = [{ name: 'all', upstream: 'main' }]

const configOf = (targets: readonly string[], upstream: object = {}, gateway: object = {}) => ({
  gateway: { listen: '127.0.0.1:0', workers: 2, ...gateway },
  upstreams: { main: { targets, ...upstream } },
  routes: ROUTES,
})

async function ask({ gateway }: InProcessGateway) {
  const answer = await fetch(gateway.gatewayUrl, { headers: { connection: 'close' } })
  return { status: answer.status, text: await answer.text(), retryAfter: answer.headers.get('retry-after') }
}

/** Answers to requests on fresh connections, so that both threads get some. */
async function askMany(running: InProcessGateway, count = 24): Promise<Set<string>> {
  const texts = new Set<string>()
  for (let i = 0; i < count; i++) texts.add((await ask(running)).text)
  return texts
}

async function readMetric({ gateway }: InProcessGateway, series: string): Promise<string | undefined> {
  const text = await (await fetch(`${gateway.adminUrl}/metrics`)).text()
  return text
    .split('\n')
    .find((line) => line.startsWith(`${series} `))
    ?.slice(series.length + 1)
}

const isUp = async (running: InProcessGateway, target: number, up: 0 | 1) =>
  (await readMetric(running, `dripgate_upstream_target_up{upstream="main",target="${target}"}`)) ===
  String(up)

function findLine({ logger }: InProcessGateway, message: string) {
  return logger.lines.find((line) => line.message === message)
}

describe('active checks', () => {
  const cleanup = useCleanup()
  const startTarget = (name: string): Promise<FickleTarget> => cleanup.open(startFickleTarget(name))

  it.each(['garbage', 'reset', 'hang', 500] as const)(
    'take a target out on every thread that meets them with %s, and back again',
    async (mood) => {
      const [a, b] = [await startTarget('a'), await startTarget('b')]
      await using running = await startInProcess(configOf([a.url, b.url], { health_check: CHECK }))
      expect(await askMany(running)).toEqual(new Set(['a', 'b']))
      a.mood = mood
      await until(() => isUp(running, 0, 0))
      expect(await askMany(running)).toEqual(new Set(['b']))
      expect(findLine(running, 'target is down')?.fields).toMatchObject({ upstream: 'main', target: 0 })
      a.mood = 'fine'
      await until(() => isUp(running, 0, 1))
      expect(await askMany(running)).toEqual(new Set(['a', 'b']))
      expect(findLine(running, 'target is up')?.fields).toMatchObject({ upstream: 'main', target: 0 })
    },
  )

  it('say 503 with Retry-After when every target is down, and leave the gateway ready', async () => {
    const a = await startTarget('a')
    await using running = await startInProcess(
      configOf([a.url], { health_check: { ...CHECK, interval: '2s' } }),
    )
    expect((await ask(running)).text).toBe('a')
    await a.close()
    await until(() => isUp(running, 0, 0))
    const { status, text, retryAfter } = await ask(running)
    expect([status, JSON.parse(text).error.code, retryAfter]).toEqual([503, 'no_upstream', '2'])
    expect((await fetch(`${running.gateway.adminUrl}/readyz`)).status).toBe(200)
  })

  it('ask for what they are told to, and count what they are told to', async () => {
    const seen: string[] = []
    let status = 204
    const upstream = await cleanup.open(
      startHttpUpstream((request, answer) => {
        seen.push(`${request.method} ${request.url} ${request.headers.host}`)
        answer.statusCode = status
        answer.end()
      }),
    )
    const rule = { path: '/up?full=1', host: 'orders.test:81', status: [204, '3xx'] }
    const thresholds = { healthy_after: 3, unhealthy_after: 3 }
    await using running = await startInProcess(
      configOf([upstream.url], { health_check: { ...CHECK, ...rule, ...thresholds } }),
    )
    const settle = async (next: number, up: 0 | 1): Promise<number> => {
      const before = seen.length
      status = next
      await until(() => isUp(running, 0, up))
      return seen.length - before
    }
    await until(() => seen.length > 1)
    expect(new Set(seen)).toEqual(new Set(['GET /up?full=1 orders.test:81']))
    expect(await settle(200, 0)).toBeGreaterThanOrEqual(3)
    expect(await settle(301, 1)).toBeGreaterThanOrEqual(3)
  })

  it('bring back a target that was ejected because it refused connections', async () => {
    const [a, b] = [await startTarget('a'), await startTarget('b')]
    const settings = {
      health_check: { ...CHECK, unhealthy_after: 100 },
      ejection: { failures: 1, backoff: '1h', backoff_max: '1h' },
    }
    await using running = await startInProcess(configOf([a.url, b.url], settings))
    await askMany(running)
    await a.close()
    expect(await askMany(running)).toEqual(new Set(['b']))
    expect(
      await readMetric(
        running,
        'dripgate_upstream_target_addresses{upstream="main",target="0",state="ejected"}',
      ),
    ).toBe('1')
    const back = await cleanup.open(startHttpUpstream((_request, answer) => answer.end('a again'), a.port))
    await until(() => isUp(running, 0, 1))
    expect(await askMany(running)).toEqual(new Set(['a again', 'b']))
    expect(back.begun).toBeGreaterThan(0)
  })
})

describe('a reload', () => {
  const cleanup = useCleanup()
  const startTarget = (name: string): Promise<FickleTarget> => cleanup.open(startFickleTarget(name))

  it('keeps the health of targets that stay, wherever they stand now', async () => {
    const [a, b, c] = [await startTarget('a'), await startTarget('b'), await startTarget('c')]
    const settings = { ejection: { failures: 1, backoff: '1h', backoff_max: '1h' } }
    await using running = await startInProcess(configOf([a.url, b.url], settings))
    a.mood = 'garbage'
    await askMany(running)
    const seen = a.ids.length
    expect(seen).toBe(1)
    a.mood = 'fine'
    await running.reload(configOf([c.url, b.url, a.url], settings))
    expect(await askMany(running)).toEqual(new Set(['b', 'c']))
    expect(a.ids).toHaveLength(seen)
    expect(await isUp(running, 2, 0)).toBe(true)
  })

  it('that takes the checks away takes their verdict away too', async () => {
    const a = await startTarget('a')
    await using running = await startInProcess(
      configOf([a.url], { health_check: { ...CHECK, status: [418] } }),
    )
    await until(async () => (await ask(running)).status === 503)
    await running.reload(configOf([a.url]))
    await until(async () => (await ask(running)).status === 200)
  })
})

describe('the names of targets', () => {
  const cleanup = useCleanup()

  it('are resolved again when their time is over, with all addresses in use', async () => {
    const dns = await cleanup.open(startDnsServer())
    const one = await cleanup.open(startHttpUpstream((_request, answer) => answer.end('one')))
    const [two, three] = [
      await cleanup.open(startHttpUpstream((_request, answer) => answer.end('two'), one.port, '127.0.0.2')),
      await cleanup.open(startHttpUpstream((_request, answer) => answer.end('three'), one.port, '127.0.0.3')),
    ]
    dns.records.set('orders.test', { addresses: ['127.0.0.1', '127.0.0.2'], ttl: 1 })
    const targets = [`http://orders.test:${one.port}`]
    await using running = await startInProcess(
      configOf(targets, { balance: 'round_robin' }, { dns: { servers: [dns.address] } }),
    )
    expect(await askMany(running)).toEqual(new Set(['one', 'two']))
    expect(one.seen[0]?.headers.host).toBe(running.gateway.gatewayUrl.slice('http://'.length))

    dns.records.set('orders.test', { addresses: ['127.0.0.3', '127.0.0.2'], ttl: 1 })
    await until(async () => (await ask(running)).text === 'three')
    expect(await askMany(running)).toEqual(new Set(['two', 'three']))

    // What is known stays in use while nobody, or somebody wrong, answers.
    dns.records.clear()
    const before = dns.questions
    await until(() => dns.questions >= before + 2)
    expect(await askMany(running)).toEqual(new Set(['two', 'three']))
    dns.isBroken = true
    await until(() => dns.questions >= before + 6)
    expect(await askMany(running)).toEqual(new Set(['two', 'three']))
    expect(
      findLine(running, 'a target cannot be resolved; its last known addresses stay in use'),
    ).toBeDefined()

    dns.isBroken = false
    dns.records.set('orders.test', { addresses: ['127.0.0.1'], ttl: 60 })
    await until(async () => (await ask(running)).text === 'one')
    expect(await askMany(running)).toEqual(new Set(['one']))
    // No request asks: the answer is good for a minute.
    const asked = dns.questions
    await askMany(running)
    expect(dns.questions).toBe(asked)
    expect(three.begun + two.begun).toBeGreaterThan(0)
  })

  it.each(['raw', 'node'])(
    'are what TLS asks for and verifies, not their addresses (%s engine)',
    async (engine) => {
      const dns = await cleanup.open(startDnsServer())
      const names = new Set<unknown>()
      const upstream = await cleanup.open(
        startHttpsUpstream(TEST_TLS, (request, answer) => {
          names.add(Reflect.get(request.socket, 'servername'))
          answer.end('safe')
        }),
      )
      dns.records.set('origin.test', { addresses: ['127.0.0.1'], ttl: 60 })
      dns.records.set('other.test', { addresses: ['127.0.0.1'], ttl: 60 })
      const startWith = (host: string) =>
        startInProcess(
          configOf(
            [`https://${host}:${upstream.port}`],
            { tls: { ca: CA_FILE }, health_check: CHECK },
            { dns: { servers: [dns.address] }, engine },
          ),
        )
      await using running = await startWith('origin.test')
      expect(await askMany(running)).toEqual(new Set(['safe']))
      const body = new Blob(['x']).stream()
      const chunked = await fetch(running.gateway.gatewayUrl, { method: 'POST', body, duplex: 'half' })
      expect(await chunked.text()).toBe('safe')
      expect(await isUp(running, 0, 1)).toBe(true)
      expect(names).toEqual(new Set(['origin.test']))
      await using wrong = await startWith('other.test')
      await until(() => isUp(wrong, 0, 0))
      expect((await ask(wrong)).status).toBe(503)
      expect(names).toEqual(new Set(['origin.test']))
    },
  )

  it('may be unknown at the start: 503 until they are known', async () => {
    const dns = await cleanup.open(startDnsServer())
    const upstream = await cleanup.open(startHttpUpstream())
    const targets = [`http://late.test:${upstream.port}`]
    await using running = await startInProcess(configOf(targets, {}, { dns: { servers: [dns.address] } }))
    expect((await ask(running)).status).toBe(503)
    dns.records.set('late.test', { addresses: ['127.0.0.1'], ttl: 60 })
    await until(async () => (await ask(running)).status === 200)
  })

  it('may be those of the hosts file', async () => {
    const upstream = await cleanup.open(startHttpUpstream())
    await using running = await startInProcess(configOf([`http://localhost:${upstream.port}`]))
    expect(await askMany(running)).toEqual(new Set(['ok']))
  })
})
