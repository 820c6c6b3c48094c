import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ClientAddress } from '../../src/data-plane/client-address.ts'
import {
  buildSteadyAnswerFields,
  buildSteadyFields,
  buildTrailers,
  findRequestId,
  listFreshAnswerFields,
  listFreshFields,
  type UpstreamHeadersInput,
} from '../../src/data-plane/headers.ts'
import type { ReceivedHead } from '../../src/data-plane/request-check.ts'
import type { Route } from '../../src/data-plane/route.ts'
import { acceptHead, compileOne, namesOf, valuesOf } from '../support/routes.ts'

const STRANGER: ClientAddress = { address: '192.0.2.1', peer: '192.0.2.1', isPeerTrusted: false }
const PROXY: ClientAddress = { address: '198.51.100.7', peer: '10.0.0.1', isPeerTrusted: true }
const open = compileOne()
const limited = compileOne({ keyspace: 'ks_a', ratelimit_headers: ['ietf', 'legacy'] })

interface Options {
  route?: Route
  client?: ClientAddress
  head?: Partial<ReceivedHead>
  kid?: string
}

function toUpstream(rawHeaders: readonly string[], options: Options = {}): string[] {
  const fields = ['Host', 'example.com', ...rawHeaders]
  const { route = open, client = STRANGER, kid } = options
  return listUpstreamFields({
    route,
    head: acceptHead({ rawHeaders: fields, ...options.head }),
    rawHeaders: fields,
    client,
    protocol: 'https',
    requestId: 'req-1',
    kid,
    ksid: kid === undefined ? undefined : 'ks_a',
    upstreamHost: '127.0.0.1:9000',
  })
}

function toClient(
  rawHeaders: readonly string[],
  options: { route?: Route; status?: number; hasUpgraded?: boolean } = {},
): string[] {
  const { route = open, status = 200, hasUpgraded = false } = options
  const limitFields = route.isOpen ? [] : ['RateLimit', 'ours']
  return [
    ...buildSteadyAnswerFields({ route, status, rawHeaders, hasUpgraded }),
    ...listFreshAnswerFields({ requestId: 'req-1', limitFields, degraded: undefined }),
  ]
}

function listUpstreamFields(input: UpstreamHeadersInput): string[] {
  return [...buildSteadyFields(input), ...listFreshFields(input)]
}

describe('hop-by-hop fields', () => {
  const HOPS = [
    'Keep-Alive',
    'Proxy-Connection',
    'Proxy-Authenticate',
    'Proxy-Authorization',
    'HTTP2-Settings',
    'Upgrade',
    'TE',
  ]

  it.each(HOPS)('such as %s go neither way', (name) => {
    expect(namesOf(toUpstream([name, 'x']))).not.toContain(name.toLowerCase())
    expect(namesOf(toClient([name, 'x']))).not.toContain(name.toLowerCase())
  })

  it('are also those that Connection names, in any line and case', () => {
    const fields = [
      'Connection',
      'close, X-Hop',
      'connection',
      ' x-OTHER ,,',
      'X-HOP',
      '1',
      'X-Other',
      '2',
      'X-Stays',
      '3',
    ]
    for (const headers of [toUpstream(fields), toClient(fields)]) {
      expect(namesOf(headers)).not.toContain('connection')
      expect(namesOf(headers)).not.toContain('x-hop')
      expect(namesOf(headers)).not.toContain('x-other')
      expect(valuesOf(headers, 'x-stays')).toEqual(['3'])
    }
  })

  it('never go either way, whatever is sent', () => {
    const name = fc.constantFrom(
      ...HOPS,
      'Connection',
      'Transfer-Encoding',
      'Expect',
      'X-A',
      'X-Dripgate-Key-Id',
      'x_dripgate_key_id',
      'X-Forwarded-For',
      'x_forwarded_for',
      'Forwarded',
      'X-Request-ID',
      'X-Real-IP',
    )
    const value = fc.constantFrom(
      'evil',
      'x-a',
      'x-forwarded-for, x-dripgate-key-id, via',
      'host, content-length',
      'upgrade',
    )
    fc.assert(
      fc.property(fc.array(fc.tuple(name, value), { maxLength: 12 }), fc.boolean(), (pairs, isKnown) => {
        const rawHeaders = ['Host', 'example.com', 'Content-Length', '3', ...pairs.flat()]
        const headers = listUpstreamFields({
          route: limited,
          head: acceptHead({ rawHeaders: ['Host', 'example.com', 'Content-Length', '3'] }),
          rawHeaders,
          client: STRANGER,
          protocol: 'http',
          requestId: 'req-1',
          kid: isKnown ? 'k_a' : undefined,
          ksid: isKnown ? 'ks_a' : undefined,
          upstreamHost: '127.0.0.1:9000',
        })
        const names = namesOf(headers)
        for (const hop of [...HOPS, 'connection', 'transfer-encoding', 'expect', 'x-real-ip']) {
          expect(names).not.toContain(hop.toLowerCase())
        }
        for (const own of ['Host', 'Content-Length', 'Forwarded', 'Via', 'X-Request-Id', 'X-Forwarded-For']) {
          expect(valuesOf(headers, own)).toHaveLength(1)
        }
        expect(valuesOf(headers, 'x-forwarded-for')).toEqual(['192.0.2.1'])
        expect(valuesOf(headers, 'x-dripgate-key-id')).toEqual(isKnown ? ['k_a'] : [])
        expect(names.filter((text) => text.includes('_'))).toEqual([])
        expect(names).not.toContain('x_dripgate_key_id')
      }),
    )
  })
})

describe('towards the upstream', () => {
  it('a request arrives with what it had and with what the gateway adds', () => {
    const headers = toUpstream(
      [
        'Accept',
        '*/*',
        'X-Two',
        '1',
        'x-two',
        '2',
        'content-length',
        '5',
        'Expect',
        '100-continue',
        'Via',
        '1.0 fred',
      ],
      { kid: 'k_a' },
    )
    expect(headers).toEqual([
      ...['Host', 'example.com', 'Accept', '*/*', 'X-Two', '1', 'x-two', '2', 'Content-Length', '5'],
      ...['X-Forwarded-For', '192.0.2.1', 'X-Forwarded-Proto', 'https', 'X-Forwarded-Host', 'example.com'],
      ...['Forwarded', 'for=192.0.2.1;host=example.com;proto=https', 'Via', '1.0 fred, 1.1 dripgate'],
      ...['X-Dripgate-Key-Id', 'k_a', 'X-Dripgate-Keyspace-Id', 'ks_a', 'X-Request-Id', 'req-1'],
    ])
  })

  it('nothing that a stranger says of the origin is believed', () => {
    const headers = toUpstream([
      ...[
        'X-Forwarded-For',
        '1.1.1.1',
        'x-forwarded-proto',
        'http',
        'X-Forwarded-Host',
        'evil',
        'Forwarded',
        'for=1.1.1.1',
      ],
      ...[
        'X-Forwarded-Port',
        '1',
        'X-Forwarded-Prefix',
        '/x',
        'X-Real-IP',
        '1.1.1.1',
        'X_Forwarded_For',
        '1.1.1.1',
      ],
      ...['X-Forwarded_For', '1.1.1.1', 'X_Real_IP', '1.1.1.1', 'X_Request_Id', 'x'],
    ])
    expect(headers.join()).not.toMatch(/1\.1\.1\.1|evil|_/)
    expect(namesOf(headers)).not.toContain('x-forwarded-port')
    expect(namesOf(headers)).not.toContain('x-forwarded-prefix')
  })

  it('what a trusted proxy says of the origin stays and grows', () => {
    const headers = toUpstream(
      [
        ...['X-Forwarded-For', '198.51.100.7', 'X-Forwarded-For', '10.0.0.2', 'X-Forwarded-Proto', 'http'],
        ...['X-Forwarded-Host', 'public.example', 'Forwarded', 'for=198.51.100.7', 'X-Forwarded-Port', '443'],
        ...['X_Forwarded_For', '1.1.1.1', 'Connection', 'X-Forwarded-For, Forwarded'],
      ],
      { client: PROXY },
    )
    expect(valuesOf(headers, 'x-forwarded-for')).toEqual(['198.51.100.7, 10.0.0.2, 10.0.0.1'])
    expect(valuesOf(headers, 'x-forwarded-proto')).toEqual(['http'])
    expect(valuesOf(headers, 'x-forwarded-host')).toEqual(['public.example'])
    expect(valuesOf(headers, 'x-forwarded-port')).toEqual(['443'])
    expect(valuesOf(headers, 'forwarded')).toEqual([
      'for=198.51.100.7, for=10.0.0.1;host=example.com;proto=https',
    ])
    expect(headers.join()).not.toContain('1.1.1.1')
  })

  it.each([
    ['X-Forwarded-Proto', 'javascript', 'https'],
    ['X-Forwarded-Proto', 'http, ', 'https'],
    ['X-Forwarded-Proto', 'HTTP, https', 'HTTP, https'],
    ['X-Forwarded-Host', 'a b', 'example.com'],
    ['X-Forwarded-Host', 'a/../b', 'example.com'],
    ['X-Forwarded-Host', 'user@evil.example', 'example.com'],
    ['X-Forwarded-Host', 'good.example, "', 'example.com'],
    ['X-Forwarded-Host', 'good.example:8443, b', 'good.example:8443, b'],
  ])('even a trusted proxy cannot make %s anything: %s', (name, value, kept) => {
    expect(valuesOf(toUpstream([name, value], { client: PROXY }), name.toLowerCase())).toEqual([kept])
  })

  it.each([
    ['for="open', ''],
    ['for="a\\"', ''],
    ['for=1.2.3.4, by="', ''],
    ['for=1.2.3.4;', ''],
    ['for=1.2.3.4,', ''],
    [',', ''],
    ['for', ''],
    ['for=a b', ''],
    ['for=[::1]', ''],
    [`for=${'a'.repeat(5000)}${';for=b'.repeat(500)}"`, ''],
    ['for="[::1]:80" ; proto=http ,\tBY="a\\"b,c;d"', 'for="[::1]:80" ; proto=http ,\tBY="a\\"b,c;d", '],
  ])('Forwarded of a trusted proxy grows only where it is well-formed: %j', (value, kept) => {
    const headers = toUpstream(['Forwarded', value], { client: PROXY })
    expect(valuesOf(headers, 'forwarded')).toEqual([`${kept}for=10.0.0.1;host=example.com;proto=https`])
  })

  it('IPv6 addresses and ports are quoted in Forwarded', () => {
    const client = { address: '2001:db8::1', peer: '2001:db8::1', isPeerTrusted: false }
    const headers = toUpstream([], { client, head: { rawHeaders: ['Host', 'a.example:8080'] } })
    expect(valuesOf(headers, 'forwarded')).toEqual(['for="[2001:db8::1]";host="a.example:8080";proto=https'])
    expect(valuesOf(headers, 'x-forwarded-for')).toEqual(['2001:db8::1'])
  })

  it('Connection removes no field of the gateway and no framing', () => {
    const headers = toUpstream(
      [
        'Connection',
        'X-Dripgate-Key-Id, X-Forwarded-For, Forwarded, Via, Host, Content-Length, X-Request-Id',
        'Content-Length',
        '5',
      ],
      { kid: 'k_a' },
    )
    expect(namesOf(headers)).toEqual([
      ...[
        'host',
        'content-length',
        'x-forwarded-for',
        'x-forwarded-proto',
        'x-forwarded-host',
        'forwarded',
        'via',
      ],
      ...['x-dripgate-key-id', 'x-dripgate-keyspace-id', 'x-request-id'],
    ])
  })

  it('a client cannot say who it is', () => {
    const headers = toUpstream([
      'X-Dripgate-Key-Id',
      'k_evil',
      'x-DRIPGATE-anything',
      'x',
      'X_Dripgate-Keyspace_Id',
      'ks_evil',
    ])
    expect(headers.join().toLowerCase()).not.toMatch(/evil|x.dripgate/)
  })

  it('Host is the one that was sent, or that of the target', () => {
    const sent = { head: { rawHeaders: ['Host', 'Example.com:81'] } }
    expect(valuesOf(toUpstream([], sent), 'host')).toEqual(['Example.com:81'])
    const route = compileOne({ host_header: 'upstream' })
    const headers = toUpstream([], { ...sent, route })
    expect(valuesOf(headers, 'host')).toEqual(['127.0.0.1:9000'])
    expect(valuesOf(headers, 'x-forwarded-host')).toEqual(['Example.com:81'])
    const without = toUpstream([], { head: { rawHeaders: [], httpVersion: '1.0' } })
    expect(valuesOf(without, 'host')).toEqual(['127.0.0.1:9000'])
    expect(namesOf(without)).not.toContain('x-forwarded-host')
    expect(valuesOf(without, 'via')).toEqual(['1.0 dripgate'])
  })

  it('a chunked body keeps its Trailer, and a wish for trailers is said anew', () => {
    const headers = toUpstream(['Transfer-Encoding', 'chunked', 'Trailer', 'X-Sum', 'TE', 'gzip, Trailers'])
    expect(valuesOf(headers, 'trailer')).toEqual(['X-Sum'])
    expect(valuesOf(headers, 'te')).toEqual(['trailers'])
    expect(namesOf(headers)).not.toContain('transfer-encoding')
    expect(namesOf(headers)).not.toContain('content-length')
  })

  it('a WebSocket is asked for anew, and no other upgrade is', () => {
    const headers = toUpstream([
      'Connection',
      'keep-alive, upgrade, x-hop',
      'Upgrade',
      'websocket',
      'X-Hop',
      '1',
      'Sec-WebSocket-Key',
      'k',
    ])
    expect(valuesOf(headers, 'connection')).toEqual(['Upgrade'])
    expect(valuesOf(headers, 'upgrade')).toEqual(['websocket'])
    expect(valuesOf(headers, 'sec-websocket-key')).toEqual(['k'])
    expect(namesOf(headers)).not.toContain('x-hop')
    expect(
      namesOf(toUpstream(['Connection', 'upgrade, http2-settings', 'Upgrade', 'h2c', 'HTTP2-Settings', 'x'])),
    ).not.toContain('upgrade')
  })

  it('a route sets and removes fields, whatever the client says', () => {
    const route = compileOne({
      headers: { request: { set: { 'X-Tenant': 'ours', 'X-Real-IP': 'ours' }, remove: ['X-Debug'] } },
    })
    const theirs = ['x-tenant', 'theirs', 'X_Tenant', 'theirs', 'X-Real-IP', 'theirs', 'X-DEBUG', 'theirs']
    const headers = toUpstream([...theirs, 'X_debug', 'theirs', 'Connection', 'x-tenant'], { route })
    expect(valuesOf(headers, 'x-tenant')).toEqual(['ours'])
    expect(valuesOf(headers, 'x-real-ip')).toEqual(['ours'])
    expect(headers).not.toContain('theirs')
  })
})

describe('towards the client', () => {
  it('an answer arrives with what it had and with what the gateway adds', () => {
    const headers = toClient([
      ...[
        'Date',
        'now',
        'Server',
        'x',
        'Set-Cookie',
        'a',
        'set-cookie',
        'b',
        'Content-Length',
        '5',
        'Via',
        '1.1 varnish',
      ],
      ...[
        'Transfer-Encoding',
        'chunked',
        'Trailer',
        'X-Sum',
        'X-Request-Id',
        'theirs',
        'X-Dripgate-Degraded',
        'allow',
      ],
    ])
    expect(headers).toEqual([
      ...[
        'Date',
        'now',
        'Server',
        'x',
        'Set-Cookie',
        'a',
        'set-cookie',
        'b',
        'Content-Length',
        '5',
        'Trailer',
        'X-Sum',
      ],
      ...['Via', '1.1 varnish, 1.1 dripgate', 'X-Request-Id', 'req-1'],
    ])
  })

  it('Content-Length is kept whatever Connection names, but not where the status has none', () => {
    const fields = ['Connection', 'content-length', 'Content-Length', '5']
    expect(valuesOf(toClient(fields), 'content-length')).toEqual(['5'])
    expect(valuesOf(toClient(fields, { status: 304 }), 'content-length')).toEqual(['5'])
    expect(valuesOf(toClient(fields, { status: 204 }), 'content-length')).toEqual([])
    expect(valuesOf(toClient(fields, { status: 103 }), 'content-length')).toEqual([])
  })

  it('limits of ours replace those of the upstream, and only on routes that send them', () => {
    const fields = [
      'RateLimit',
      'x',
      'ratelimit-policy',
      'x',
      'RateLimit-Remaining',
      'x',
      'X-RateLimit-Limit',
      'x',
      'Retry-After',
      '9',
    ]
    const headers = toClient(fields, { route: limited, status: 429 })
    expect(valuesOf(headers, 'ratelimit')).toEqual(['ours'])
    expect(valuesOf(headers, 'retry-after')).toEqual(['9'])
    expect(namesOf(headers).filter((name) => name.includes('ratelimit'))).toEqual(['ratelimit'])
    const ietf = compileOne({ keyspace: 'ks_a' })
    expect(valuesOf(toClient(fields, { route: ietf }), 'x-ratelimit-limit')).toEqual(['x'])
    expect(valuesOf(toClient(fields), 'ratelimit')).toEqual(['x'])
  })

  it('a degraded answer says so', () => {
    const answer = { requestId: 'r', limitFields: [] }
    expect(valuesOf(listFreshAnswerFields({ ...answer, degraded: 'local' }), 'x-dripgate-degraded')).toEqual([
      'local',
    ])
    expect(namesOf(listFreshAnswerFields({ ...answer, degraded: undefined }))).not.toContain(
      'x-dripgate-degraded',
    )
  })

  it('a relayed 101 keeps its upgrade', () => {
    const fields = [
      'Connection',
      'upgrade',
      'Upgrade',
      'WebSocket',
      'Sec-WebSocket-Accept',
      'k',
      'Content-Length',
      '0',
    ]
    const headers = toClient(fields, { status: 101, hasUpgraded: true })
    expect(valuesOf(headers, 'connection')).toEqual(['Upgrade'])
    expect(valuesOf(headers, 'upgrade')).toEqual(['WebSocket'])
    expect(valuesOf(headers, 'sec-websocket-accept')).toEqual(['k'])
    expect(namesOf(headers)).not.toContain('content-length')
  })

  it('a route sets and removes fields', () => {
    const route = compileOne({
      headers: { response: { set: { 'X-Frame-Options': 'DENY' }, remove: ['server'] } },
    })
    const headers = toClient(['SERVER', 'x', 'x-frame-options', 'ALLOW'], { route })
    expect(headers).toEqual(['Via', '1.1 dripgate', 'x-frame-options', 'DENY', 'X-Request-Id', 'req-1'])
  })
})

describe('trailers', () => {
  it('carry nothing that frames, routes, identifies or belongs to the gateway', () => {
    const bad = [
      'Content-Length',
      'Transfer-Encoding',
      'Host',
      'Authorization',
      'X-API-KEY',
      'X-Forwarded-For',
      'X-Dripgate-Key-Id',
      'x_dripgate_key_id',
      'RateLimit',
      'Connection',
      'Set-Cookie',
      'Trailer',
    ]
    expect(
      buildTrailers(limited, [...bad.flatMap((name) => [name, 'x']), 'X-Sum', '1', 'grpc-status', '0']),
    ).toEqual([...['X-Sum', '1', 'grpc-status', '0']])
  })
})

describe('a request id', () => {
  it.each(['a', 'A-z_0.9', 'x'.repeat(128)])('is kept: %s', (id) => {
    expect(findRequestId(['x-request-ID', id])).toBe(id)
  })

  it.each(['', 'a b', 'a"b', 'ä', 'a,b', 'a\x1b', 'x'.repeat(129)])('is not kept: %j', (id) => {
    expect(findRequestId(['X-Request-Id', id])).toBeUndefined()
  })

  it('is kept only if there is one', () => {
    expect(findRequestId([])).toBeUndefined()
    expect(findRequestId(['X-Request-Id', 'a', 'x-request-id', 'a'])).toBeUndefined()
  })
})
