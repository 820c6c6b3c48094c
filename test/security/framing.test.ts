import { describe, expect, it } from 'vitest'
import { useProxy } from '../support/proxy-bench.ts'
import { ENGINE_PAIRS, eventually, startGatewayWith } from '../support/proxy-gateway.ts'
import { startHttpUpstream } from '../support/upstreams.ts'

const POST = ['POST / HTTP/1.1', 'Host: a']

/** Heads that are malformed or can be read in two ways; `\n` and others stand for themselves. */
const BAD_HEADS: readonly (readonly [string, string])[] = [
  ['both lengths', lines(...POST, 'Content-Length: 5', 'Transfer-Encoding: chunked')],
  ['both lengths, the other way round', lines(...POST, 'Transfer-Encoding: chunked', 'Content-Length: 5')],
  ['two lengths', lines(...POST, 'Content-Length: 5', 'Content-Length: 6')],
  ['one length twice', lines(...POST, 'Content-Length: 5', 'Content-Length: 5')],
  ['a list of lengths', lines(...POST, 'Content-Length: 5, 5')],
  ['a negative length', lines(...POST, 'Content-Length: -1')],
  ['a signed length', lines(...POST, 'Content-Length: +5')],
  ['a hexadecimal length', lines(...POST, 'Content-Length: 0x5')],
  ['an empty length', lines(...POST, 'Content-Length:')],
  ['a length beyond all measure', lines(...POST, 'Content-Length: 99999999999999999999999')],
  ['an unknown coding', lines(...POST, 'Transfer-Encoding: xchunked')],
  ['identity', lines(...POST, 'Transfer-Encoding: identity')],
  ['chunked not last', lines(...POST, 'Transfer-Encoding: chunked, gzip')],
  ['chunked behind another', lines(...POST, 'Transfer-Encoding: gzip, chunked')],
  ['chunked twice', lines(...POST, 'Transfer-Encoding: chunked, chunked')],
  ['two codings', lines(...POST, 'Transfer-Encoding: chunked', 'Transfer-Encoding: identity')],
  ['chunked behind a control character', lines(...POST, 'Transfer-Encoding: \u000bchunked')],
  ['quoted chunked', lines(...POST, 'Transfer-Encoding: "chunked"')],
  ['a space before the colon', lines(...POST, 'Transfer-Encoding : chunked')],
  [
    'a coding in HTTP/1.0',
    lines('POST / HTTP/1.0', 'Host: a', 'Transfer-Encoding: chunked', 'Connection: keep-alive'),
  ],
  ['a folded line', lines('GET / HTTP/1.1', 'Host: a', 'X-Long: a\r\n b')],
  ['NUL in a value', lines('GET / HTTP/1.1', 'Host: a', 'X-Nul: a\0b')],
  ['NUL in a name', lines('GET / HTTP/1.1', 'Host: a', 'X\0Nul: a')],
  ['CR in a value', lines('GET / HTTP/1.1', 'Host: a', 'X-Cr: a\rTransfer-Encoding: chunked')],
  ['a line that ends in LF only', 'GET / HTTP/1.1\nHost: a\r\n\r\n'],
  ['fields that end in LF only', 'GET / HTTP/1.1\r\nHost: a\nX-Mine: 1\r\n\r\n'],
  ['a control character in a value', lines('GET / HTTP/1.1', 'Host: a', 'X-Bell: \u0007')],
  ['a bad character in a name', lines('GET / HTTP/1.1', 'Host: a', 'X(Mine): 1')],
  ['a name of nothing', lines('GET / HTTP/1.1', 'Host: a', ': 1')],
  ['a field without colon', lines('GET / HTTP/1.1', 'Host: a', 'nothing')],
  ['a space first', lines('GET / HTTP/1.1', ' Host: a')],
  ['two Hosts', lines('GET / HTTP/1.1', 'Host: a', 'Host: b')],
  ['one Host twice', lines('GET / HTTP/1.1', 'Host: a', 'Host: a')],
  ['no Host', lines('GET / HTTP/1.1', 'X-Mine: 1')],
  ['an empty Host', lines('GET / HTTP/1.1', 'Host:')],
  ['a Host with a path', lines('GET / HTTP/1.1', 'Host: a/b')],
  ['a Host with credentials', lines('GET / HTTP/1.1', 'Host: user@a')],
  ['a Host with a space', lines('GET / HTTP/1.1', 'Host: a b')],
  ['a Host that differs from the target', lines('GET http://other/ HTTP/1.1', 'Host: a')],
  ['a target of another scheme', lines('GET ftp://a/ HTTP/1.1', 'Host: a')],
  ['a target without slash', lines('GET a HTTP/1.1', 'Host: a')],
  ['a target with a space', lines('GET /a b HTTP/1.1', 'Host: a')],
  ['a target with a control character', lines('GET /a\u0001 HTTP/1.1', 'Host: a')],
  ['a target beyond ASCII', lines('GET /\u00e4 HTTP/1.1', 'Host: a')],
  ['a fragment', lines('GET /a#b HTTP/1.1', 'Host: a')],
  ['a version to come', lines('GET / HTTP/3.7', 'Host: a')],
  ['no version', lines('GET /', 'Host: a')],
  ['a bad method', lines('GE(T / HTTP/1.1', 'Host: a')],
  ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ['a TLS hello', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
  ['two expectations', lines(...POST, 'Content-Length: 1', 'Expect: 100-continue, other')],
]

const BAD_BODIES: readonly (readonly [string, string])[] = [
  ['a size that is none', 'xyz\r\nabc\r\n0\r\n\r\n'],
  ['a negative size', '-1\r\nabc\r\n0\r\n\r\n'],
  ['a size with a prefix', '0x3\r\nabc\r\n0\r\n\r\n'],
  ['a size with a space before', ' 3\r\nabc\r\n0\r\n\r\n'],
  ['a size beyond 64 bits', 'fffffffffffffffff\r\nabc\r\n0\r\n\r\n'],
  ['a size that ends in LF only', '3\nabc\r\n0\r\n\r\n'],
  ['a chunk longer than its size', '3\r\nabcdef\r\n0\r\n\r\n'],
  ['a chunk without its end', '3\r\nabc0\r\n\r\n'],
  ['NUL in an extension', '3;a\0b\r\nabc\r\n0\r\n\r\n'],
  ['extensions without end', `3;${'x'.repeat(100_000)}\r\nabc\r\n0\r\n\r\n`],
  ['a bad trailer', '3\r\nabc\r\n0\r\nX(Bad): 1\r\n\r\n'],
  ['a length as a trailer', '3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n'],
]

describe.each(ENGINE_PAIRS)('framing of requests ($front front, $upstream upstream)', (engines) => {
  const bench = useProxy({ startGateway: startGatewayWith(engines) })

  it.each(BAD_HEADS)('refuses %s, closes, and forwards nothing', async (_name, head) => {
    const upstream = await bench.upstream(startHttpUpstream())
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway)
    client.write(head, 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n')
    const answer = await client.readAnswer()
    expect(answer.status).toBe(400)
    expect(JSON.parse(answer.body.toString()).error.code).toBe('bad_request')
    expect(answer.headers.get('connection')).toBe('close')
    await client.closed()
    expect(client.received).toBe('')
    await eventually(() => gateway.records.length === 1, 'one record')
    expect(gateway.records[0]).toMatchObject({ decision: 'rejected', status: 400 })
    expect(upstream.connections).toBe(0)
  })

  it.each(BAD_BODIES)('ends a body with %s unfinished upstream', async (_name, body) => {
    const upstream = await bench.upstream(startHttpUpstream())
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway)
    client.write(
      lines(...POST, 'Transfer-Encoding: chunked'),
      body,
      'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n',
    )
    const answer = await client.readAnswer()
    expect(answer.status).toBe(400)
    expect(answer.headers.get('connection')).toBe('close')
    await client.closed()
    await eventually(() => upstream.brokenOff === upstream.begun, 'the upstream told, if it was asked')
    expect(upstream.seen).toHaveLength(0)
    expect(gateway.records).toHaveLength(1)
  })

  it('answers what was pipelined before something malformed, in order, and then refuses', async () => {
    const upstream = await bench.upstream(
      startHttpUpstream((_request, answer) => setTimeout(() => answer.end('ok'), 50)),
    )
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway)
    client.write('GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nBAD LINE\r\n\r\n')
    expect((await client.readAnswer()).body.toString()).toBe('ok')
    expect((await client.readAnswer()).body.toString()).toBe('ok')
    expect((await client.readAnswer()).status).toBe(400)
    await client.closed()
    expect(upstream.seen.map((request) => request.target)).toEqual(['/1', '/2'])
  })

  it('reads a request that comes byte by byte like any other', async () => {
    const upstream = await bench.upstream(startHttpUpstream((_request, answer, body) => answer.end(body)))
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway)
    const request = `${lines(...POST, 'Transfer-Encoding: chunked')}3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n`
    for (const byte of request) {
      client.write(byte)
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect((await client.readAnswer()).body.toString()).toBe('abcde')
    expect(upstream.seen[0]?.trailers).toEqual({ 'x-sum': '1' })
  })

  it('takes the absolute form where it names the same host, and forwards the path', async () => {
    const upstream = await bench.upstream(startHttpUpstream())
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway)
    client.send('GET http://a.test/x?y HTTP/1.1', 'Host: a.test')
    expect((await client.readAnswer()).status).toBe(200)
    expect(upstream.seen[0]?.target).toBe('/x?y')
  })

  it('is not confused by fields named like properties of objects', async () => {
    const upstream = await bench.upstream(startHttpUpstream())
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway)
    client.send(
      'GET /__proto__/constructor HTTP/1.1',
      'Host: a',
      '__proto__: 1',
      'constructor: 2',
      'toString: 3',
    )
    expect((await client.readAnswer()).status).toBe(200)
    expect(upstream.seen[0]?.rawHeaders).toContain('__proto__')
  })
})

function lines(...parts: string[]): string {
  return `${parts.join('\r\n')}\r\n\r\n`
}
