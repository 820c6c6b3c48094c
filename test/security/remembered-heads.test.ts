import { describe, expect, it } from 'vitest'
import type { CheckKey } from '../../src/app/check-key.ts'
import { useCleanup } from '../support/cleanup.ts'
import { createDice, type Dice } from '../support/http1-corpus.ts'
import {
  type GatewaySettings,
  hashToken,
  startGatewayWith,
  type TestGateway,
} from '../support/proxy-gateway.ts'
import { connectRaw, type RawAnswer, type RawClient } from '../support/raw-client.ts'
import { startHttpUpstream } from '../support/upstreams.ts'

/*
 * The raw front and the raw upstream client keep what follows from the fields of a message beside
 * these fields, for all who send the same. A gateway of node:http keeps nothing. Both are asked the
 * same, in the same order, and must do the same, whoever asked before them.
 */

const STEPS = Number(process.env['DRIPGATE_REMEMBERED_STEPS'] ?? 1200)
/** For so many requests there are few heads and few targets, and then others. */
const PHASE = 40
const PEERS = ['127.0.0.1', '127.0.0.2', '127.0.0.3']
const TARGETS = [
  '/a',
  '/b',
  '/a?token=t_1',
  '/a?token=t_2',
  '/b/x',
  '/b/y',
  '/c',
  '/cached/1',
  '/d',
  'http://a.test/a',
]
/** The first of either have to do with keys. */
const KEYED = 4
const METHODS = ['GET', 'GET', 'GET', 'GET', 'GET', 'HEAD', 'POST', 'OPTIONS', 'PATCH']
const FIELDS = [
  ['Authorization: Bearer t_1'],
  ['Authorization: Bearer t_2'],
  ['X-API-Key: t_1', 'Cookie: sid=t_2; other=1'],
  ['Cookie: other=1; sid=t_1'],
  ['X-Forwarded-For: 10.0.0.1, 127.0.0.2', 'X-Forwarded-Proto: https', 'X-Real-IP: 10.0.0.1'],
  ['Forwarded: for=10.0.0.1', 'X-Forwarded-For: 10.0.0.9', 'Authorization: Bearer t_1'],
  ['Origin: https://a.test', 'X-Debug: 1', 'X-Dripgate-Key-Id: k_evil'],
  ['traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', 'tracestate: a=b'],
  ['Connection: X-Debug, X-API-Key', 'X-Debug: 1', 'X-API-Key: t_2'],
  ['TE: trailers', 'Via: 1.0 some', 'X-Request-Id: mine', 'X-Set: by-client'],
  [],
  ['If-None-Match: "e"', 'Authorization: Bearer t_2'],
]

/** What a reload may change, each by itself. */
function makeSettings(dice: Dice, main: string, other: string): GatewaySettings {
  const pick = <T>(...items: T[]): T => dice.pick(items)
  const common = { token: { headers: ['authorization', 'x-api-key'], query: pick('', 'token') || undefined } }
  const secured = {
    ...common,
    keyspaces: pick(['ks_1', 'ks_2'], ['ks_1', 'ks_2'], ['ks_1']),
    forward_credentials: dice.roll(2) === 0,
    host_header: pick('preserve', 'upstream'),
    headers: {
      request: { set: pick({}, { 'x-set': 'one' }, { 'x-set': 'two' }), remove: pick([], ['x-debug']) },
      response: { set: pick({}, { 'x-answer': 'one' }), remove: pick([], ['x-up']) },
    },
  }
  const cors = { origins: [pick('https://a.test', 'https://b.test')] }
  return {
    gateway: {
      trusted_proxies: pick([], ['127.0.0.2'], ['127.0.0.2', '127.0.0.3'], ['10.0.0.0/8', '127.0.0.1']),
    },
    upstreams: { main: { targets: [main] }, other: { targets: [other] }, both: { targets: [main, other] } },
    routes: [
      { name: 'a', upstream: pick('main', 'both', 'both'), match: { path: '/a' }, ...secured },
      { name: 'b', upstream: 'main', match: { path: '/b' }, ...(dice.roll(2) === 0 ? secured : {}) },
      { name: 'bx', upstream: 'other', match: { path: '/b/x' }, strip_path: dice.roll(2) === 0 },
      {
        name: 'c',
        upstream: 'main',
        match: { path: '/c', methods: ['GET', 'POST'] },
        ...(dice.roll(2) === 0 ? { cors } : {}),
      },
      {
        name: 'cached',
        upstream: 'main',
        match: { path: '/cached' },
        keyspace: 'ks_1',
        cache: { ttl: '1h' },
      },
      {
        name: 'd',
        upstream: 'main',
        match: { path: '/d' },
        ...common,
        keyspace: 'ks_2',
        token: { cookie: 'sid' },
      },
    ],
  }
}

interface Side {
  readonly gateway: TestGateway
  readonly seen: unknown[]
  readonly clients: Map<string, RawClient>
  reload(dice: Dice): void
}

const withoutPorts = (text: string) => text.replaceAll(/127\.0\.0\.1:\d+/g, 'target')

function toFields(rawHeaders: readonly string[]): string[] {
  const fields: string[] = []
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]?.toLowerCase() ?? ''
    if (['date', 'connection', 'keep-alive'].includes(name)) continue
    // Made for each request, where it is no client's.
    const value = (rawHeaders[i + 1] ?? '').replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'made')
    fields.push(withoutPorts(`${name}: ${value}`))
  }
  return fields.sort()
}

function toAnswer({ status, rawHeaders, body }: RawAnswer): unknown {
  const text = String(body)
    .replaceAll(/"request_id":"[^"]*"/g, '')
    .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'made')
  return { status, fields: toFields(rawHeaders), body: text }
}

describe('what is remembered of heads', () => {
  const cleanup = useCleanup()

  async function start(kind: 'node' | 'raw', checkKey: CheckKey, first: Dice): Promise<Side> {
    const seen: unknown[] = []
    const startUpstream = () =>
      startHttpUpstream((request, answer, body) => {
        const { method = '', url = '', rawHeaders, headers, socket } = request
        const { host = '' } = headers
        const isItsOwn = host.endsWith('.test') || host === `127.0.0.1:${socket.localPort}`
        const line = `${method} ${url}${isItsOwn ? '' : ` with Host ${host} on port ${socket.localPort}`}`
        seen.push({ line, fields: toFields(rawHeaders), body: String(body) })
        answer.sendDate = false
        // The same heads over and over, but for what depends on the path.
        const isGone = url.startsWith('/b/y')
        answer.writeHead(isGone ? 204 : 200, [
          'X-Up',
          'some',
          'Cache-Control',
          'max-age=60',
          'Connection',
          'X-Hop',
          'X-Hop',
          '1',
          ...(isGone ? [] : ['Content-Length', '2']),
        ])
        answer.end(isGone || method === 'HEAD' ? undefined : 'ok')
      })
    const main = await cleanup.open(startUpstream())
    const other = await cleanup.open(startUpstream())
    const settings = (dice: Dice) => ({ ...makeSettings(dice, main.url, other.url), checkKey })
    const gateway = await cleanup.open(startGatewayWith({ front: kind, upstream: kind })(settings(first)))
    const clients = new Map<string, RawClient>()
    cleanup.later(() => {
      for (const client of clients.values()) client.destroy()
    })
    return { gateway, seen, clients, reload: (dice) => gateway.reload(settings(dice)) }
  }

  async function ask(
    side: Side,
    peer: string,
    method: string,
    head: string,
    last: boolean,
  ): Promise<unknown> {
    const known = side.clients.get(peer)
    const client =
      known === undefined || known.isClosed ? connectRaw(side.gateway.port, { localAddress: peer }) : known
    side.clients.set(peer, client)
    client.write(head)
    const answer = toAnswer(await client.readAnswer(method))
    if (last) {
      client.destroy()
      side.clients.delete(peer)
    }
    return answer
  }

  it('depends on nothing but the bytes of these heads', async () => {
    const seed = Number(process.env['DRIPGATE_REMEMBERED_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
    const dice = createDice(seed)
    /** Which key a token is, which may change at any time. */
    const keys = new Map<string, { kid: string; ksid: string }>()
    const checkKey: CheckKey = (hash, keyspaces) => {
      const key = keys.get(hash)
      if (key === undefined || !keyspaces.has(key.ksid)) return { kind: 'unknown' }
      return { kind: 'allowed', ...key, limit: undefined, remaining: 0, lastRefilledMs: 0, nowMs: 0 }
    }
    const first = dice.roll(1e6)
    const sides = [
      await start('node', checkKey, createDice(first)),
      await start('raw', checkKey, createDice(first)),
    ] as const
    const statuses = new Map<unknown, number>()
    let fields = FIELDS
    let targets = TARGETS
    for (let step = 0; step < STEPS; step++) {
      if (step % PHASE === 0) {
        const next = dice.roll(1e6)
        if (dice.roll(4) > 0) for (const side of sides) side.reload(createDice(next))
        fields = [dice.pick(FIELDS.slice(0, KEYED)), dice.pick(FIELDS)]
        targets = [dice.pick(TARGETS.slice(0, KEYED)), dice.pick(TARGETS)]
      }
      if (dice.roll(5) === 0) {
        const hash = hashToken(dice.pick(['t_1', 't_2']))
        if (dice.roll(8) === 0) keys.delete(hash)
        else keys.set(hash, { kid: `k_${dice.roll(3)}`, ksid: dice.pick(['ks_1', 'ks_2']) })
      }
      const method = dice.pick(METHODS)
      const version = dice.pick(['1.1', '1.1', '1.1', '1.0'])
      const host = dice.pick(['a.test', 'a.test', 'a.test', 'b.test'])
      const lines = [
        `Host: ${host}`,
        ...dice.pick(fields),
        ...(dice.roll(12) === 0 ? ['Connection: close'] : []),
      ]
      const body = method === 'POST' || method === 'PATCH' ? 'body' : ''
      if (body !== '') lines.push('Content-Length: 4')
      const head = `${method} ${dice.pick(targets)} HTTP/${version}\r\n${lines.join('\r\n')}\r\n\r\n${body}`
      const peer = dice.pick(PEERS)
      const mayStay = version === '1.1' && dice.roll(10) > 0
      const [node, raw] = [
        await ask(sides[0], peer, method, head, !mayStay),
        await ask(sides[1], peer, method, head, !mayStay),
      ]
      const about = `seed ${seed}, step ${step}, from ${peer}: ${JSON.stringify(head)}`
      expect(raw, about).toEqual(node)
      expect(sides[1].seen.splice(0), about).toEqual(sides[0].seen.splice(0))
      const { status } = raw as { status: number }
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
    }
    expect(sides[1].gateway.records.map(toRecord)).toEqual(sides[0].gateway.records.map(toRecord))
    for (const { gateway } of sides) expect(gateway.errors).toEqual([])
    const keyed = sides[1].gateway.records.filter(({ kid }) => kid !== '')
    expect(keyed.length).toBeGreaterThan(STEPS / 10)
    expect(statuses.get(401)).toBeGreaterThan(STEPS / 20)
  })
})

function toRecord({
  routeName,
  decision,
  status,
  method,
  path,
  kid,
  remoteAddress,
}: TestGateway['records'][number]) {
  return { routeName, decision, status, method, path, kid, remoteAddress }
}
