import { describe, expect, it } from 'vitest'
import { useProxy } from '../support/proxy-bench.ts'
import { ENGINE_PAIRS, eventually, startGatewayWith } from '../support/proxy-gateway.ts'
import { startRawUpstream, startScriptedUpstream } from '../support/upstreams.ts'

const OK = 'HTTP/1.1 200 OK\r\n'

/** Answers that cannot be relayed: 502, and the connection is never used again. */
const BAD_ANSWERS: readonly (readonly [string, string])[] = [
  ['both lengths', `${OK}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n`],
  ['two lengths', `${OK}Content-Length: 2\r\nContent-Length: 3\r\n\r\nok`],
  ['a bad length', `${OK}Content-Length: -2\r\n\r\nok`],
  ['a list of lengths', `${OK}Content-Length: 2, 2\r\n\r\nok`],
  ['another coding', `${OK}Transfer-Encoding: gzip\r\n\r\nxx`],
  ['another coding before chunked', `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n`],
  ['NUL in a value', `${OK}X-Nul: a\0b\r\nContent-Length: 0\r\n\r\n`],
  ['CR in a value', `${OK}X-Cr: a\rSet-Cookie: x=1\r\nContent-Length: 0\r\n\r\n`],
  ['a bad name', `${OK}X(Bad): 1\r\nContent-Length: 0\r\n\r\n`],
  ['a space before the colon', `${OK}Content-Length : 0\r\n\r\n`],
  ['a head too large', `${OK}X-Large: ${'x'.repeat(200_000)}\r\nContent-Length: 0\r\n\r\n`],
  ['a flood of fields', `${OK}${'X-F: 1\r\n'.repeat(30_000)}Content-Length: 0\r\n\r\n`],
  ['no HTTP', 'HTP/9 hello\r\n\r\n'],
  ['a status of two digits', 'HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n'],
  ['a status below 100', 'HTTP/1.1 042 Odd\r\nContent-Length: 0\r\n\r\n'],
  [
    'a flood of 1xx',
    `${'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'.repeat(1000)}${OK}Content-Length: 0\r\n\r\n`,
  ],
]

/** Answers that break off: the client must see it. */
const BROKEN_ANSWERS: readonly (readonly [string, string])[] = [
  ['a short body', `${OK}Content-Length: 100\r\n\r\nsome`],
  ['a short chunk', `${OK}Transfer-Encoding: chunked\r\n\r\n64\r\nsome`],
  ['no last chunk', `${OK}Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n`],
  ['a bad chunk', `${OK}Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\nzz\r\n`],
  ['a bad trailer', `${OK}Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n0\r\nX(Bad): 1\r\n\r\n`],
]

describe.each(ENGINE_PAIRS)('hostile upstreams ($front front, $upstream upstream)', (engines) => {
  const bench = useProxy({ startGateway: startGatewayWith(engines) })

  /** Both ways that a request can take: undici's, and that of chunked bodies. */
  const REQUESTS = [
    ['GET', 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['chunked', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n'],
  ] as const

  for (const [kind, request] of REQUESTS) {
    it.each(BAD_ANSWERS)(`says 502 to %s (${kind})`, async (name, bytes) => {
      const upstream = await bench.upstream(startScriptedUpstream(bytes))
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)
      client.write(request)
      let answer = await client.readAnswer()
      if (name === 'a flood of 1xx') {
        let hints = 0
        while (answer.status === 103) {
          hints++
          answer = await client.readAnswer()
        }
        expect(hints).toBeLessThan(100)
      }
      expect(answer.status).toBe(502)
      expect(JSON.parse(answer.body.toString()).error.code).toBe('upstream_unreachable')
      expect(answer.headers.has('set-cookie')).toBe(false)
      await eventually(() => upstream.openSockets.size === 0, 'the upstream connection closed')
    })

    it.each(BROKEN_ANSWERS)(`lets the client see that %s is not all (${kind})`, async (_name, bytes) => {
      const upstream = await bench.upstream(
        startRawUpstream((connection) =>
          connection.onHead(() => {
            connection.write(bytes)
            connection.socket.end()
          }),
        ),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)
      client.write(request)
      await expect(client.readAnswer()).rejects.toThrow(/closed while waiting/)
      await eventually(() => gateway.records.length === 1, 'recorded')
      expect(gateway.records[0]).toMatchObject({ status: 200, aborted: true })
    })

    it(`lets the client see that a body was reset which only the connection delimits (${kind})`, async () => {
      const upstream = await bench.upstream(
        startRawUpstream((connection) =>
          connection.onHead(() => {
            connection.write(`${OK}Connection: close\r\n\r\nsome`)
            setTimeout(() => connection.socket.resetAndDestroy(), 50)
          }),
        ),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)
      client.write(request)
      await expect(client.readAnswer()).rejects.toThrow(/closed while waiting/)
    })

    it(`takes nothing that comes behind an answer for the next one (${kind})`, async () => {
      const upstream = await bench.upstream(
        startScriptedUpstream(`${OK}Content-Length: 4\r\n\r\ngood${OK}Content-Length: 4\r\n\r\nevil`),
      )
      const gateway = await bench.gateway({ upstream: upstream.url })
      for (let i = 0; i < 5; i++) {
        const client = bench.client(gateway)
        client.write(request)
        const answer = await client.readAnswer()
        expect([answer.status, answer.body.toString()]).toEqual([200, 'good'])
        client.write(request)
        expect((await client.readAnswer()).body.toString()).toBe('good')
      }
    })

    it(`relays a 204 and a 304 that lie about a body without one (${kind})`, async () => {
      for (const status of [204, 304]) {
        const upstream = await bench.upstream(
          startScriptedUpstream(`HTTP/1.1 ${status} X\r\nContent-Length: 6\r\n\r\n${'x'.repeat(6)}`),
        )
        const gateway = await bench.gateway({ upstream: upstream.url })
        for (let i = 0; i < 3; i++) {
          const client = bench.client(gateway)
          client.write(request)
          const answer = await client.readAnswer()
          expect(answer.status).toBe(status)
          if (status === 204) expect(answer.headers.has('content-length')).toBe(false)
          client.write(request)
          expect((await client.readAnswer()).status).toBe(status)
        }
      }
    })
  }

  it('takes a body in answer to HEAD for nothing', async () => {
    const upstream = await bench.upstream(startScriptedUpstream(`${OK}Content-Length: 4\r\n\r\nevil`))
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway)
    for (let i = 0; i < 3; i++) {
      client.send('HEAD / HTTP/1.1', 'Host: a')
      const answer = await client.readAnswer('HEAD')
      expect([answer.status, answer.headers.get('content-length')]).toEqual([200, '4'])
    }
    expect(client.received).toBe('')
  })

  it('relays statuses beyond the usual ones', async () => {
    const upstream = await bench.upstream(
      startScriptedUpstream('HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n'),
    )
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway)
    client.send('GET / HTTP/1.1', 'Host: a')
    expect((await client.readAnswer()).status).toBe(799)
  })

  it('drops what an upstream says in the name of the gateway or about the connection', async () => {
    const upstream = await bench.upstream(
      startScriptedUpstream(
        `${OK}X-Dripgate-Degraded: allow\r\nX-Request-Id: theirs\r\nConnection: close\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n`,
      ),
    )
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway)
    client.send('GET / HTTP/1.1', 'Host: a', 'X-Request-Id: mine')
    const answer = await client.readAnswer()
    expect(answer.headers.has('x-dripgate-degraded')).toBe(false)
    expect(answer.headers.get('x-request-id')).toBe('mine')
    expect(answer.headers.get('connection')).not.toBe('close')
    expect(answer.headers.has('upgrade')).toBe(false)
  })

  it('relays bytes beyond ASCII in fields unchanged', async () => {
    const upstream = await bench.upstream(
      startScriptedUpstream(`${OK}X-Name: caf\xe9\r\nContent-Length: 0\r\n\r\n`),
    )
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway)
    client.send('GET / HTTP/1.1', 'Host: a')
    expect((await client.readAnswer()).headers.get('x-name')).toBe('caf\xe9')
  })
})
