import { constants } from 'node:http2'
import { connect as connectTls } from 'node:tls'
import { describe, expect, it } from 'vitest'
import type { Limited } from '../../src/domain/decision.ts'
import { ask, connectHttp2, type Http2Answer, open, readAnswer } from '../support/http2-client.ts'
import { encodeFields, encodeRequest, FLAG, FRAME } from '../support/http2-frames.ts'
import { useProxy } from '../support/proxy-bench.ts'
import {
  ENGINE_PAIRS,
  eventually,
  type GatewaySettings,
  KSID,
  startGatewayWith,
  TOKEN,
} from '../support/proxy-gateway.ts'
import { requestOnce } from '../support/raw-client.ts'
import { TEST_TLS } from '../support/test-tls.ts'
import { startHttpUpstream, startStreamingUpstream } from '../support/upstreams.ts'

/** HTTP/2 towards clients, over every front that may stand beside it and every upstream client. */

const LIMITED: Limited = {
  kind: 'limited',
  kid: 'k_1',
  ksid: KSID,
  limit: { capacity: 10, rate: 1, intervalMs: 1000 },
  remaining: 0,
  lastRefilledMs: 0,
  nowMs: 0,
  retryAfterMs: 1200,
}
const MEGABYTE = 1024 * 1024

describe.each(ENGINE_PAIRS)('HTTP/2 beside a $front front, to a $upstream upstream', (engines) => {
  const bench = useProxy({ startGateway: startGatewayWith(engines) })
  const keyed = { name: 'main', upstream: 'main', keyspace: KSID }

  async function start(settings: GatewaySettings) {
    const gateway = await bench.gateway({ tls: TEST_TLS, ...settings })
    const session = await bench.session(connectHttp2(gateway.port))
    return { gateway, session }
  }

  const codeOf = ({ body }: Http2Answer): string => JSON.parse(body.toString()).error.code

  it('forwards what a client asks and relays the answer', async () => {
    const upstream = await bench.upstream(
      startHttpUpstream((_request, answer) => {
        answer.setHeader('Set-Cookie', ['a=1', 'b=2'])
        answer.writeHead(201, { 'X-Own': 'yes', Connection: 'x-hop', 'X-Hop': '1' })
        answer.end('hello')
      }),
    )
    const { gateway, session } = await start({ upstream: upstream.url })
    const answer = await ask(session, '/a/b?c=d%20e', {
      fields: [
        ['cookie', 'one=1'],
        ['cookie', 'two=2'],
        ['x-list', 'a'],
        ['x-list', 'b'],
        ['te', 'trailers'],
        ['x-request-id', 'r-1'],
      ],
    })
    expect(answer.status).toBe(201)
    expect(answer.body.toString()).toBe('hello')
    expect(answer.headers).toMatchObject({
      'x-own': 'yes',
      'set-cookie': ['a=1', 'b=2'],
      'x-request-id': 'r-1',
    })
    expect(answer.headers['via']).toContain('dripgate')
    expect(answer.headers['date']).toBeTypeOf('string')
    for (const name of ['connection', 'keep-alive', 'transfer-encoding', 'x-hop']) {
      expect(answer.headers[name]).toBeUndefined()
    }
    const [seen] = upstream.seen
    expect(seen?.target).toBe('/a/b?c=d%20e')
    expect(seen?.headers).toMatchObject({
      host: 'a.test',
      cookie: 'one=1; two=2',
      'x-list': 'a, b',
      te: 'trailers',
      via: '2.0 dripgate',
      'x-forwarded-proto': 'https',
      'x-forwarded-for': '127.0.0.1',
      'x-forwarded-host': 'a.test',
    })
    expect(gateway.records[0]).toMatchObject({ method: 'GET', path: '/a/b', status: 201, bytesOut: 5 })
  })

  it('sends a body of any kind once, and none where there is none', async () => {
    const upstream = await bench.upstream(
      startHttpUpstream((request, answer, body) => answer.end(`${request.method} ${body.length}`)),
    )
    const { session } = await start({ upstream: upstream.url })
    const bodies: [string, string | undefined, string][] = [
      ['POST', undefined, 'POST 0'],
      ['POST', '', 'POST 0'],
      ['POST', 'four', 'POST 4'],
      ['PUT', 'x'.repeat(300_000), 'PUT 300000'],
      ['DELETE', 'body', 'DELETE 4'],
    ]
    for (const [method, body, expected] of bodies) {
      const answer = await ask(session, '/', body === undefined ? { method } : { method, body })
      expect(answer.body.toString()).toBe(expected)
    }
    const measured = await ask(session, '/', {
      method: 'POST',
      body: 'four',
      fields: [['content-length', '4']],
    })
    expect(measured.body.toString()).toBe('POST 4')
    expect(upstream.seen.at(-1)?.headers['content-length']).toBe('4')
    const framings = upstream.seen.map(
      ({ headers }) => headers['transfer-encoding'] ?? headers['content-length'],
    )
    // Some clients say in so many words that there is nothing.
    expect([undefined, '0']).toContain(framings.shift())
    expect(framings).toEqual(['chunked', 'chunked', 'chunked', 'chunked', '4'])
  })

  it('answers HEAD, 204 and 304 without a body', async () => {
    const upstream = await bench.upstream(
      startHttpUpstream((request, answer) => {
        answer.statusCode = Number(request.url?.slice(1))
        answer.setHeader('X-Seen', request.method ?? '')
        if (request.method === 'HEAD') answer.setHeader('Content-Length', '9')
        answer.end()
      }),
    )
    const { session } = await start({ upstream: upstream.url })
    for (const [method, status] of [
      ['HEAD', 200],
      ['GET', 204],
      ['GET', 304],
    ] as const) {
      const answer = await ask(session, `/${status}`, { method })
      expect([answer.status, answer.headers['x-seen'], answer.body.length, answer.isHeadOnly]).toEqual([
        status,
        method,
        0,
        true,
      ])
    }
  })

  it('passes trailers on, both ways', async () => {
    const upstream = await bench.upstream(
      startHttpUpstream((_request, answer) => {
        answer.writeHead(200, { Trailer: 'x-sum' })
        answer.write('data')
        answer.addTrailers({ 'X-Sum': 'down', 'X-Two': '2' })
        answer.end()
      }),
    )
    const { session } = await start({ upstream: upstream.url })
    const stream = open(session, 'POST', '/', [['te', 'trailers']])
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': 'up' }))
    const withTrailers = session.request(
      [':method', 'POST', ':scheme', 'https', ':authority', 'a.test', ':path', '/', 'te', 'trailers'],
      { waitForTrailers: true },
    )
    withTrailers.on('wantTrailers', () => withTrailers.sendTrailers({ 'x-sum': 'up' }))
    const answering = readAnswer(withTrailers)
    withTrailers.end('body')
    const answer = await answering
    expect(answer.body.toString()).toBe('data')
    expect(answer.trailers).toMatchObject({ 'x-sum': 'down', 'x-two': '2' })
    expect(upstream.seen[0]?.trailers).toMatchObject({ 'x-sum': 'up' })
    stream.close()
  })

  it('passes 103 on, and says 100 where a client waits for it', async () => {
    const upstream = await bench.upstream(
      startHttpUpstream((_request, answer) => {
        answer.writeEarlyHints({ link: '</a.css>; rel=preload' })
        answer.end('ok')
      }),
    )
    const { session } = await start({ upstream: upstream.url })
    const stream = open(session, 'POST', '/', [['expect', '100-continue']])
    const informed: number[] = []
    stream.on('headers', (fields) => informed.push(Number(fields[':status'])))
    stream.on('continue', () => {
      informed.push(100)
      stream.end('body')
    })
    const answer = await readAnswer(stream)
    expect(answer.status).toBe(200)
    expect(informed).toContain(103)
    expect(informed).toContain(100)
    expect(upstream.seen[0]?.body.toString()).toBe('body')
  })

  it('gives the same local answers', async () => {
    const upstream = await bench.upstream(startHttpUpstream())
    const routes = [
      { ...keyed, match: { path: '/keyed', methods: ['GET', 'POST'] }, max_body: 10 },
      { name: 'open', upstream: 'main', match: { path: '/open' }, max_body: 10 },
    ]
    const { session } = await start({ upstream: upstream.url, routes })
    const bearer = [['authorization', `Bearer ${TOKEN}`]] as const
    const long = 'x'.repeat(9000)
    const cases: [string, Parameters<typeof ask>[2], number, string][] = [
      ['/none', {}, 404, 'not_found'],
      ['/keyed', { method: 'PUT' }, 405, 'method_not_allowed'],
      ['/keyed', { method: 'TRACE' }, 405, 'method_not_allowed'],
      ['/keyed', {}, 401, 'missing_token'],
      ['/keyed', { fields: [['x-api-key', 'other']] }, 401, 'invalid_token'],
      ['/keyed/../open', { fields: bearer }, 400, 'ambiguous_path'],
      ['/keyed', { method: 'POST', fields: bearer, body: 'x'.repeat(11) }, 413, 'body_too_large'],
      [
        '/keyed',
        { method: 'POST', fields: [...bearer, ['content-length', '11']], body: 'x'.repeat(11) },
        413,
        'body_too_large',
      ],
      [`/${long}`, {}, 414, 'uri_too_long'],
      [
        '/open',
        {
          fields: [
            ['x-long', long],
            ['x-longer', long],
          ],
        },
        431,
        'headers_too_large',
      ],
      [
        '/open',
        { fields: Array.from({ length: 120 }, (_, n) => [`x-${n}`, '1'] as const) },
        431,
        'headers_too_large',
      ],
      ['/open', { fields: [['host', 'b.test']] }, 400, 'bad_request'],
      ['/open', { fields: [['expect', 'other']] }, 400, 'bad_request'],
    ]
    for (const [path, options, status, code] of cases) {
      const answer = await ask(session, path, options)
      expect([path.slice(0, 20), answer.status, codeOf(answer)]).toEqual([path.slice(0, 20), status, code])
      expect(answer.headers['content-type']).toBe('application/json')
      expect(answer.headers['connection']).toBeUndefined()
    }
    // The connection has survived them all.
    expect((await ask(session, '/keyed', { fields: bearer })).status).toBe(200)
    expect((await ask(session, '/open', { fields: [['host', 'A.test']] })).status).toBe(200)
    expect((await ask(session, '/open', { method: 'HEAD' })).body.length).toBe(0)
    expect(upstream.begun).toBeLessThanOrEqual(4)
  })

  it('says 429 with the fields of the limit', async () => {
    const upstream = await bench.upstream(startHttpUpstream())
    const { session } = await start({ upstream: upstream.url, routes: [keyed], checkKey: () => LIMITED })
    const answer = await ask(session, '/', { fields: [['x-api-key', 't']] })
    expect(answer.status).toBe(429)
    expect(codeOf(answer)).toBe('rate_limited')
    expect(answer.headers).toMatchObject({ 'retry-after': '2', ratelimit: expect.stringContaining('r=0') })
    expect(upstream.begun).toBe(0)
  })

  it('refuses CONNECT, extended or not, and paths that are none', async () => {
    const upstream = await bench.upstream(startHttpUpstream())
    const { gateway, session } = await start({ upstream: upstream.url })
    const connecting = session.request({ ':method': 'CONNECT', ':authority': 'a.test:443' })
    connecting.on('error', () => {})
    expect((await readAnswer(connecting)).status).toBe(405)
    const raw = await bench.frames(gateway)
    const pseudo = (path: string, scheme: string) =>
      encodeFields([':method', 'GET'], [':scheme', scheme], [':authority', 'a'], [':path', path])
    const extended = encodeFields(
      ...([
        [':method', 'CONNECT'],
        [':protocol', 'websocket'],
        [':scheme', 'https'],
      ] as const),
      ...([
        [':path', '/'],
        [':authority', 'a'],
      ] as const),
    )
    raw.send(FRAME.headers, FLAG.endHeaders | FLAG.endStream, 1, pseudo('http://b.test/', 'foo'))
    raw.send(FRAME.headers, FLAG.endHeaders | FLAG.endStream, 3, pseudo('x', 'https'))
    raw.send(FRAME.headers, FLAG.endHeaders, 5, extended)
    raw.send(FRAME.headers, FLAG.endHeaders | FLAG.endStream, 7, pseudo('/', 'https'))
    await eventually(() => raw.find(FRAME.headers, 7) !== undefined, 'the good one answered')
    expect(raw.find(FRAME.headers, 1) ?? raw.find(FRAME.reset, 1)).toBeDefined()
    expect(raw.find(FRAME.reset, 3)).toBeDefined()
    expect(raw.find(FRAME.reset, 5)).toBeDefined()
    expect(upstream.begun).toBe(1)
  })

  it('resets a stream with a forbidden field or the wrong length, and none of it is a whole request', async () => {
    const upstream = await bench.upstream(startHttpUpstream())
    const { gateway } = await start({ upstream: upstream.url })
    const raw = await bench.frames(gateway)
    const fields = [
      ['connection', 'close'],
      ['transfer-encoding', 'chunked'],
      ['te', 'gzip'],
      ['X-Upper', '1'],
    ] as const
    let id = 1
    for (const pair of fields) {
      raw.send(FRAME.headers, FLAG.endHeaders | FLAG.endStream, id, encodeRequest('GET', '/', pair))
      id += 2
    }
    raw.send(FRAME.headers, FLAG.endHeaders, id, encodeRequest('POST', '/', ['content-length', '5']))
    raw.send(FRAME.data, FLAG.endStream, id, Buffer.from('four'))
    for (let stream = 1; stream <= id; stream += 2) {
      await eventually(() => raw.find(FRAME.reset, stream) !== undefined, `a reset of stream ${stream}`)
    }
    // More than was announced ends the whole connection.
    raw.send(FRAME.headers, FLAG.endHeaders, id + 2, encodeRequest('POST', '/', ['content-length', '3']))
    raw.send(FRAME.data, FLAG.endStream, id + 2, Buffer.from('four'))
    await eventually(() => raw.isCutOff, 'the connection cut off')
    expect(upstream.seen).toEqual([])
  })

  it('takes no body for whole that was reset, even without an error', async () => {
    const upstream = await bench.upstream(startHttpUpstream())
    const { gateway } = await start({ upstream: upstream.url })
    const raw = await bench.frames(gateway)
    raw.send(FRAME.headers, FLAG.endHeaders, 1, encodeRequest('POST', '/'))
    raw.send(FRAME.data, 0, 1, Buffer.from('half'))
    await eventually(() => upstream.begun === 1, 'the request upstream')
    raw.send(FRAME.reset, 0, 1, Buffer.alloc(4))
    await eventually(() => upstream.brokenOff === 1, 'the request broken off')
    await eventually(() => gateway.records.length === 1, 'a record')
    expect(upstream.seen).toEqual([])
  })

  it('holds back an upload that the upstream does not read, and an answer that the client does not', async () => {
    let taken = 0
    let sent = 0
    const upstream = await bench.upstream(
      startStreamingUpstream((request, answer) => {
        if (request.method === 'POST') {
          setTimeout(
            () => request.on('data', (chunk) => (taken += chunk.length)).on('end', () => answer.end('done')),
            300,
          )
          return
        }
        const fill = () => {
          while (sent < 64 * MEGABYTE) {
            sent += 65536
            if (!answer.write(Buffer.alloc(65536))) return void answer.once('drain', fill)
          }
          answer.end()
        }
        fill()
      }),
    )
    const { session } = await start({
      upstream: upstream.url,
      routes: [{ name: 'main', upstream: 'main', max_body: 'unlimited' }],
    })
    const up = await ask(session, '/', { method: 'POST', body: Buffer.alloc(8 * MEGABYTE) })
    expect([up.body.toString(), taken]).toEqual(['done', 8 * MEGABYTE])

    const down = open(session, 'GET', '/', [], true)
    await new Promise((resolve) => down.once('response', resolve))
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(sent).toBeLessThan(24 * MEGABYTE)
    // Others on the same connection go on.
    expect((await ask(session, '/', { method: 'POST', body: 'x' })).status).toBe(200)
    let got = 0
    down.on('data', (chunk) => (got += chunk.length))
    await new Promise((resolve) => down.once('end', resolve))
    expect(got).toBe(64 * MEGABYTE)
  })

  it('gives up a client that takes nothing of its answer, but not the connection', async () => {
    const upstream = await bench.upstream(
      startStreamingUpstream((_request, answer) => void answer.end(Buffer.alloc(4 * MEGABYTE))),
    )
    const route = { name: 'main', upstream: 'main', timeouts: { idle: '300ms' } }
    const { gateway, session } = await start({ upstream: upstream.url, routes: [route] })
    const stalled = open(session, 'GET', '/', [], true)
    await new Promise((resolve) => stalled.once('response', resolve))
    stalled.pause()
    const reset = new Promise((resolve) => stalled.once('aborted', resolve).once('close', resolve))
    await eventually(() => gateway.records.length === 1, 'the stalled request recorded')
    stalled.resume()
    await reset
    expect(gateway.records[0]).toMatchObject({ aborted: true })
    await eventually(() => upstream.openSockets.size === 0, 'the upstream connection closed')
    expect((await ask(session, '/')).body.length).toBe(4 * MEGABYTE)
  })

  it('says 408 to a body that stops', async () => {
    const upstream = await bench.upstream(startHttpUpstream())
    const { session } = await start({ upstream: upstream.url, gateway: { timeouts: { body: '200ms' } } })
    const stream = open(session, 'POST', '/')
    stream.write('half')
    const answer = await readAnswer(stream)
    expect([answer.status, codeOf(answer)]).toEqual([408, 'request_timeout'])
    await eventually(() => upstream.brokenOff === 1, 'the request broken off')
  })

  it('aborts the upstream request when the client resets its stream', async () => {
    const upstream = await bench.upstream(
      startStreamingUpstream((_request, answer) => void answer.write('part')),
    )
    const { gateway, session } = await start({ upstream: upstream.url })
    const stream = open(session, 'GET', '/', [], true)
    await new Promise((resolve) => stream.once('data', resolve))
    stream.close(constants.NGHTTP2_CANCEL)
    await eventually(() => upstream.openSockets.size === 0, 'the upstream connection closed')
    await eventually(() => gateway.records.length === 1, 'a record')
    expect(gateway.records[0]).toMatchObject({ status: 200, aborted: true })
  })

  it('resets the stream of an answer that breaks off, so that nobody takes it for complete', async () => {
    const upstream = await bench.upstream(
      startStreamingUpstream((_request, answer) => {
        answer.write('part')
        setTimeout(() => answer.destroy(), 30)
      }),
    )
    const { session } = await start({ upstream: upstream.url })
    const answer = await ask(session, '/')
    expect([answer.status, answer.body.toString()]).toEqual([200, 'part'])
    expect(answer.resetCode).toBe(constants.NGHTTP2_INTERNAL_ERROR)
    expect(session.destroyed).toBe(false)
  })

  it('serves many streams of one connection at a time', async () => {
    let running = 0
    let most = 0
    const upstream = await bench.upstream(
      startHttpUpstream((request, answer) => {
        most = Math.max(most, ++running)
        setTimeout(() => {
          running--
          answer.end(request.url)
        }, 20)
      }),
    )
    const { gateway, session } = await start({ upstream: upstream.url })
    const paths = Array.from({ length: 250 }, (_, n) => `/${n}`)
    const answers = await Promise.all(paths.map((path) => ask(session, path)))
    expect(answers.map(({ body }) => body.toString())).toEqual(paths)
    expect(most).toBeGreaterThan(10)
    expect(most).toBeLessThanOrEqual(100)
    expect(gateway.records).toHaveLength(250)
  })

  it('drains: says goodbye, finishes what runs, and takes nothing new', async () => {
    let finish = () => {}
    const upstream = await bench.upstream(
      startHttpUpstream((_request, answer) => {
        finish = () => answer.end('late')
      }),
    )
    const { gateway, session } = await start({ upstream: upstream.url })
    const answering = ask(session, '/')
    await eventually(() => upstream.begun === 1, 'the request upstream')
    const goodbye = new Promise((resolve) => session.once('goaway', resolve))
    const closing = gateway.close(10_000)
    await goodbye
    finish()
    expect((await answering).body.toString()).toBe('late')
    await closing
    await eventually(() => session.destroyed, 'the connection closed')
  })

  it('sends clients away while it drains, and still answers those that come', async () => {
    const upstream = await bench.upstream(startHttpUpstream())
    const { gateway, session } = await start({ upstream: upstream.url })
    const goodbye = new Promise((resolve) => session.once('goaway', resolve))
    gateway.drain()
    await goodbye
    const late = await bench.session(connectHttp2(gateway.port))
    expect((await ask(late, '/')).status).toBe(200)
    await eventually(() => late.destroyed && session.destroyed, 'both closed')
  })

  it('ends a connection that asks nothing for too long', async () => {
    const upstream = await bench.upstream(startHttpUpstream())
    const timeouts = { headers: '300ms', idle: '200ms' }
    const { gateway, session } = await start({ upstream: upstream.url, gateway: { timeouts } })
    expect((await ask(session, '/')).status).toBe(200)
    const silent = await bench.frames(gateway)
    await eventually(() => session.destroyed && silent.isClosed, 'both closed')
  })

  it('leaves HTTP/1.1 to those who want it, and HTTP/2 out where it is switched off', async () => {
    const upstream = await bench.upstream(startHttpUpstream())
    const gateway = await bench.gateway({ upstream: upstream.url, tls: TEST_TLS })
    expect((await askHttp1(gateway.port)).slice(0, 15)).toBe('HTTP/1.1 200 OK')
    const without = await bench.gateway({ upstream: upstream.url, tls: TEST_TLS, gateway: { http2: false } })
    await expect(connectHttp2(without.port)).rejects.toThrow()
    expect((await askHttp1(without.port)).slice(0, 15)).toBe('HTTP/1.1 200 OK')
    const plain = await bench.gateway({ upstream: upstream.url })
    expect((await requestOnce(plain.port, ['GET / HTTP/1.1', 'Host: a'])).status).toBe(200)
  })
})

function askHttp1(port: number): Promise<string> {
  const client = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false })
  return new Promise((resolve, reject) => {
    let text = ''
    client.on('data', (chunk) => {
      text += chunk
    })
    client.on('end', () => resolve(text))
    client.on('error', reject)
    client.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
  })
}
