import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { type ClientHttp2Session, constants } from 'node:http2'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { createAuthority, MAY_ISSUE } from '../support/certificates.ts'
import { encodeMessage, readMessages, startGrpcUpstream } from '../support/grpc.ts'
import { ask, connectHttp2, type Http2Answer, open, type Pairs, readAnswer } from '../support/http2-client.ts'
import { useProxy } from '../support/proxy-bench.ts'
import { eventually, type GatewaySettings, KSID, startGatewayWith } from '../support/proxy-gateway.ts'
import { requestOnce } from '../support/raw-client.ts'
import { CA_FILE, TEST_TLS } from '../support/test-tls.ts'
import { findClosedPort, startHttpsUpstream, startRawUpstream } from '../support/upstreams.ts'

/** gRPC from client to upstream, by HTTP/2 all the way; and upstreams that speak HTTP/2. */

const bench = useProxy({ startGateway: startGatewayWith({ front: 'raw', upstream: 'raw' }) })
const GRPC: Pairs = [
  ['content-type', 'application/grpc'],
  ['te', 'trailers'],
]
const TLS_TO_UPSTREAM = { ca: CA_FILE, servername: 'origin.test' }

async function start(target: string, upstream: object = {}, more: GatewaySettings = {}) {
  const upstreams = { main: { targets: [target], protocol: 'http2', ...upstream } }
  const gateway = await bench.gateway({ tls: TEST_TLS, upstreams, ...more })
  return { gateway, session: await bench.session(connectHttp2(gateway.port)) }
}

async function call(session: ClientHttp2Session, method: string, ...messages: string[]) {
  const stream = open(session, 'POST', `/echo.Echo/${method}`, GRPC)
  const received: string[] = []
  const read = readMessages((text) => received.push(text))
  stream.on('data', read)
  const answering = readAnswer(stream)
  for (const message of messages) stream.write(encodeMessage(message))
  stream.end()
  return { ...(await answering), messages: received }
}

const statusOf = ({ headers, trailers }: Http2Answer) => trailers['grpc-status'] ?? headers['grpc-status']

describe.each([
  ['h2c', undefined],
  ['h2 over TLS', TEST_TLS],
])('gRPC through the gateway, to an upstream by %s', (_name, tls) => {
  const startEcho = async () => {
    const upstream = await startGrpcUpstream(tls)
    const opened = await bench.upstream(Promise.resolve(upstream))
    return {
      upstream: opened,
      ...(await start(opened.url, tls === undefined ? {} : { tls: TLS_TO_UPSTREAM })),
    }
  }

  it('echoes one message, and keeps the fields and trailers', async () => {
    const { session, upstream, gateway } = await startEcho()
    const answer = await call(session, 'Unary', 'hello')
    expect(answer.messages).toEqual(['echo hello'])
    expect(answer.headers).toMatchObject({ ':status': 200, 'content-type': 'application/grpc' })
    expect(answer.trailers).toMatchObject({ 'grpc-status': '0', 'x-seen': 'all' })
    expect(upstream.calls[0]).toMatchObject({
      ':authority': 'a.test',
      'content-type': 'application/grpc',
      te: 'trailers',
      'x-forwarded-proto': 'https',
    })
    expect(gateway.records[0]).toMatchObject({ status: 200, decision: 'open', aborted: false })
  })

  it('streams many messages down, and both ways in turns', async () => {
    const { session } = await startEcho()
    const list = await call(session, 'List', 'all')
    expect(list.messages).toHaveLength(100)
    expect(list.messages.at(-1)).toMatch(/^item 99 /)
    expect(statusOf(list)).toBe('0')

    const chat = open(session, 'POST', '/echo.Echo/Chat', GRPC)
    const received: string[] = []
    chat.on(
      'data',
      readMessages((text) => received.push(text)),
    )
    const answering = readAnswer(chat)
    for (const word of ['one', 'two', 'three']) {
      chat.write(encodeMessage(word))
      await eventually(() => received.at(-1) === `echo ${word}`, `the echo of ${word}`)
    }
    chat.end()
    expect(statusOf(await answering)).toBe('0')
  })

  it('passes an error on as the answer of one frame that it is', async () => {
    const { session } = await startEcho()
    const answer = await call(session, 'Fail', 'x')
    expect(answer.isHeadOnly).toBe(true)
    expect(answer.headers).toMatchObject({ 'grpc-status': '9', 'grpc-message': 'not now' })
  })

  it('cancels upstream what the client cancels, and what runs out of its deadline', async () => {
    const { session, upstream, gateway } = await startEcho()
    const hanging = open(session, 'POST', '/echo.Echo/Hang', [...GRPC, ['grpc-timeout', '50m']])
    hanging.write(encodeMessage('x'))
    await eventually(() => upstream.calls.length === 1, 'the call upstream')
    expect(upstream.calls[0]?.['grpc-timeout']).toBe('50m')
    // A client with a deadline resets the stream when it is over.
    hanging.close(constants.NGHTTP2_CANCEL)
    await eventually(() => upstream.resets.length === 1, 'the reset upstream')
    expect(upstream.resets).toEqual([constants.NGHTTP2_CANCEL])
    await eventually(() => gateway.records.length === 1, 'a record')
    expect((await call(session, 'Unary', 'after')).messages).toEqual(['echo after'])
    expect(upstream.sessions()).toBe(1)
  })

  it('resets a call whose upstream broke off', async () => {
    const { session } = await startEcho()
    const answer = await call(session, 'Break', 'x')
    expect(answer.resetCode).toBe(constants.NGHTTP2_INTERNAL_ERROR)
    expect(statusOf(answer)).toBeUndefined()
  })

  it('uses one connection for many calls, more only beyond its streams', async () => {
    const { session, upstream } = await startEcho()
    const answers = await Promise.all(Array.from({ length: 50 }, (_, n) => call(session, 'Unary', String(n))))
    expect(answers.map(({ messages }) => messages[0])).toEqual(answers.map((_, n) => `echo ${n}`))
    expect(upstream.sessions()).toBe(1)
  })
})

describe('a gRPC call that the gateway refuses', () => {
  it.each([
    ['no token', '/keyed', {}, 16, 401],
    ['no route', '/none', {}, 12, 404],
    ['a limit', '/keyed', { 'x-api-key': 'limited' }, 8, 429],
    ['an upstream that is away', '/away', {}, 14, 502],
  ])('because of %s gets a status of gRPC', async (_why, path, fields, status, recorded) => {
    const away = await findClosedPort()
    const limit = { capacity: 1, rate: 1, intervalMs: 1000 }
    const state = {
      kid: 'k',
      ksid: KSID,
      limit,
      remaining: 0,
      lastRefilledMs: 0,
      nowMs: 0,
      retryAfterMs: 500,
    }
    const routes = [
      { name: 'keyed', upstream: 'main', match: { path: '/keyed' }, keyspace: KSID },
      { name: 'away', upstream: 'main', match: { path: '/away' } },
    ]
    const { session, gateway } = await start(
      `http://127.0.0.1:${away}`,
      {},
      {
        routes,
        checkKey: () => ({ kind: 'limited', ...state }),
      },
    )
    const answer = await ask(session, path, {
      method: 'POST',
      body: '',
      fields: [...GRPC, ...Object.entries(fields)],
    })
    expect(answer).toMatchObject({ status: 200, isHeadOnly: true })
    expect(answer.headers).toMatchObject({
      'content-type': 'application/grpc',
      'grpc-status': String(status),
      'grpc-message': expect.stringMatching(/^[A-Z]/),
    })
    expect(answer.headers['retry-after']).toBe(status === 8 ? '1' : undefined)
    await eventually(() => gateway.records.length === 1, 'a record')
    expect(gateway.records[0]?.status).toBe(recorded)
    // Everybody else, gRPC-Web included, gets what HTTP says.
    const web = [['content-type', 'application/grpc-web'], ...Object.entries(fields)] as Pairs
    expect((await ask(session, path, { method: 'POST', body: '', fields: web })).status).toBe(recorded)
  })
})

describe('an upstream by HTTP/2', () => {
  it('serves clients of HTTP/1.1 too, with trailers', async () => {
    const upstream = await bench.upstream(startGrpcUpstream())
    const gateway = await bench.gateway({
      upstreams: { main: { targets: [upstream.url], protocol: 'http2' } },
    })
    const body = encodeMessage('one').toString('latin1')
    const answer = await requestOnce(
      gateway.port,
      ['POST /echo.Echo/Unary HTTP/1.1', 'Host: b.test', 'TE: trailers', `Content-Length: ${body.length}`],
      body,
    )
    expect(answer.status).toBe(200)
    expect(answer.body.toString()).toContain('echo one')
    expect(upstream.calls[0]?.[':authority']).toBe('b.test')
  })

  it('is known by its own name, whatever Host the client sends, and refused under another', async () => {
    const upstream = await bench.upstream(startGrpcUpstream(TEST_TLS))
    const { session } = await start(upstream.url, { tls: TLS_TO_UPSTREAM })
    expect((await call(session, 'Unary', 'x')).messages).toEqual(['echo x'])
    for (const tls of [{}, { ca: CA_FILE, servername: 'other.test' }]) {
      const { session: refused, gateway } = await start(upstream.url, { tls })
      expect((await ask(refused, '/echo.Echo/Fail')).status).toBe(502)
      expect(gateway.warnings.at(-1)).toMatch(/certificate|altnames/i)
    }
    expect(upstream.calls).toHaveLength(1)
  })

  it.skipIf(!MAY_ISSUE).each(['http1', 'http2'])(
    'gets our certificate where it asks for one (%s)',
    async (protocol) => {
      const folder = mkdtempSync(path.join(tmpdir(), 'dripgate-mtls-'))
      try {
        const authority = createAuthority(folder)
        const { cert, key } = authority.issue('own', ['DNS:origin.test'])
        const asking = { cert: readFileSync(cert), key: readFileSync(key), ca: Buffer.from(authority.pem) }
        const tls = { ca: authority.file, servername: 'origin.test' }
        const upstream =
          protocol === 'http2'
            ? await bench.upstream(startGrpcUpstream(asking))
            : await bench.upstream(
                startHttpsUpstream({ ...asking, requestCert: true, rejectUnauthorized: true }),
              )
        const { session } = await start(upstream.url, { tls: { ...tls, cert, key }, protocol })
        expect((await ask(session, '/echo.Echo/Fail')).status).toBe(200)
        const { session: without } = await start(upstream.url, { tls, protocol })
        expect((await ask(without, '/echo.Echo/Fail')).status).toBe(502)
      } finally {
        rmSync(folder, { recursive: true, force: true })
      }
    },
  )

  it('that speaks no HTTP/2 is refused, and the log says why', async () => {
    const upstream = await bench.upstream(startHttpsUpstream(TEST_TLS))
    const { session, gateway } = await start(upstream.url, { tls: TLS_TO_UPSTREAM })
    expect((await ask(session, '/')).status).toBe(502)
    expect(gateway.warnings.at(-1)).toMatch(/HTTP\/2|ALPN|alpn/)
  })

  it('that does not take connections costs the connect timeout and no more', async () => {
    const upstream = await bench.upstream(startRawUpstream(() => {}))
    const { session } = await start(upstream.url.replace('http', 'https'), { timeouts: { connect: '200ms' } })
    const answers = await Promise.all([1, 2, 3].map(() => ask(session, '/')))
    expect(answers.map(({ status }) => status)).toEqual([504, 504, 504])
    await eventually(() => upstream.openSockets.size === 0, 'the connection given up')
  })

  it('that does not answer is asked whether it is there, and left where it is not', async () => {
    const upstream = await bench.upstream(startGrpcUpstream())
    const { session } = await start(upstream.url, { timeouts: { response: '200ms' } })
    expect((await ask(session, '/echo.Echo/Hang')).status).toBe(504)
    expect((await call(session, 'Unary', 'x')).messages).toEqual(['echo x'])
  })

  it('that ends its connections loses no request', async () => {
    const upstream = await bench.upstream(startGrpcUpstream())
    const { session } = await start(upstream.url)
    for (let n = 0; n < 3; n++) {
      expect((await call(session, 'Unary', String(n))).messages).toEqual([`echo ${n}`])
      upstream.endSessions()
      await eventually(() => upstream.openSessions() === 0, 'the connection closed')
    }
    expect(upstream.sessions()).toBe(3)
  })
})
