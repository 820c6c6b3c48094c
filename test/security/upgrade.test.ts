import { describe, expect, it } from 'vitest'
import { useProxy } from '../support/proxy-bench.ts'
import { ENGINE_PAIRS, eventually, KSID, startGatewayWith } from '../support/proxy-gateway.ts'
import { startHttpUpstream, startRawUpstream } from '../support/upstreams.ts'

const UPGRADE = [
  'Host: a',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
]
const HIDDEN = 'GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n'

describe.each(ENGINE_PAIRS)('upgrades that are none ($front front, $upstream upstream)', (engines) => {
  const bench = useProxy({ startGateway: startGatewayWith(engines) })

  it.each([
    ['HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok', 200],
    ['HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno', 403],
    ['HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nok', 200],
    ['HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n', 502],
    ['HTTP/1.1 426 No\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n', 426],
    ['HTTP/1.1 204 No Content\r\n\r\n', 204],
    ['nonsense\r\n\r\n', 502],
  ])('passes no byte of the client up after %j', async (bytes, status) => {
    const rests: string[] = []
    const heads: string[] = []
    const upstream = await bench.upstream(
      startRawUpstream((connection) => {
        connection.socket.on('close', () => rests.push(connection.rest))
        connection.onHead((head) => {
          heads.push(head)
          connection.write(bytes)
        })
      }),
    )
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway)
    client.write(`GET /chat HTTP/1.1\r\n${UPGRADE.join('\r\n')}\r\n\r\n`, HIDDEN)
    expect((await client.readAnswer()).status).toBe(status)
    if (!client.isClosed) client.write(HIDDEN)
    await client.closed()
    await eventually(() => rests.length === 1, 'the upstream connection closed')
    expect(heads).toHaveLength(1)
    expect(rests).toEqual([''])
    expect(gateway.records.map((record) => record.path)).toEqual(['/chat'])
  })

  it('holds the first bytes back until the 101 has come', async () => {
    let say101 = () => {}
    let rest = () => ''
    const upstream = await bench.upstream(
      startRawUpstream((connection) =>
        connection.onFirstHead(() => {
          rest = () => connection.rest
          say101 = () =>
            connection.write(
              'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
            )
        }),
      ),
    )
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway)
    client.write(`GET / HTTP/1.1\r\n${UPGRADE.join('\r\n')}\r\n\r\n`, 'early')
    await eventually(() => upstream.connections === 1, 'the request upstream')
    client.write(' bird')
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(rest()).toBe('')
    say101()
    await eventually(() => rest() === 'early bird', 'the bytes, in order')
  })

  it('asks for the token before it asks the upstream', async () => {
    const upstream = await bench.upstream(startRawUpstream(() => {}))
    const gateway = await bench.gateway({
      upstream: upstream.url,
      routes: [{ upstream: 'main', keyspace: KSID }],
    })
    const client = bench.client(gateway)
    client.write(`GET / HTTP/1.1\r\n${UPGRADE.join('\r\n')}\r\n\r\n`, HIDDEN)
    expect((await client.readAnswer()).status).toBe(401)
    await client.closed()
    expect(upstream.connections).toBe(0)
    expect(gateway.records).toHaveLength(1)
  })

  it.each(['Content-Length: 5', 'Transfer-Encoding: chunked'])(
    'refuses an upgrade with a body (%s)',
    async (field) => {
      const upstream = await bench.upstream(startRawUpstream(() => {}))
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)
      client.send('GET / HTTP/1.1', ...UPGRADE, field)
      client.write('5\r\nhello\r\n0\r\n\r\n')
      expect((await client.readAnswer()).status).toBe(400)
      await client.closed()
      expect(upstream.connections).toBe(0)
    },
  )

  it.each(['GET', 'POST'])('says 502 to a 101 that nobody asked for (%s)', async (method) => {
    const upstream = await bench.upstream(
      startRawUpstream((connection) =>
        connection.onHead(() =>
          connection.write(
            'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nxx',
          ),
        ),
      ),
    )
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway)
    client.send(
      `${method} / HTTP/1.1`,
      'Host: a',
      ...(method === 'POST' ? ['Transfer-Encoding: chunked'] : []),
    )
    if (method === 'POST') client.write('0\r\n\r\n')
    expect((await client.readAnswer()).status).toBe(502)
    await eventually(() => upstream.openSockets.size === 0, 'the upstream connection closed')
  })

  it('treats a CONNECT with bytes behind it as what it is: refused', async () => {
    const upstream = await bench.upstream(startRawUpstream(() => {}))
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway)
    client.write('CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n', HIDDEN)
    expect((await client.readAnswer()).status).toBe(405)
    await client.closed()
    expect(upstream.connections).toBe(0)
  })

  it.each([
    ['HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno', 403],
    ['', 502],
  ])('lets go of a client that spoke too early and stays (%j)', async (bytes, status) => {
    const upstream = await bench.upstream(
      startRawUpstream((connection) =>
        connection.onHead(() => {
          if (bytes === '') connection.socket.destroy()
          else connection.write(bytes)
        }),
      ),
    )
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway, { allowHalfOpen: true })
    client.write(`GET / HTTP/1.1\r\n${UPGRADE.join('\r\n')}\r\n\r\nearly`)
    expect((await client.readAnswer()).status).toBe(status)
    const startedAt = performance.now()
    await gateway.close(10_000)
    expect(performance.now() - startedAt).toBeLessThan(4000)
  })

  it('says 502 to a 204 that announces a body', async () => {
    const upstream = await bench.upstream(
      startRawUpstream((connection) =>
        connection.onHead(() =>
          connection.write('HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nPOISON'),
        ),
      ),
    )
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway)
    client.send('GET / HTTP/1.1', ...UPGRADE)
    expect((await client.readAnswer()).status).toBe(502)
  })

  it('passes informational answers on before a refusal, but not without end', async () => {
    let informations = 1
    const upstream = await bench.upstream(
      startRawUpstream((connection) =>
        connection.onHead(() => {
          const information = 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'
          connection.write(information.repeat(informations), 'HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n')
        }),
      ),
    )
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway)
    client.send('GET / HTTP/1.1', ...UPGRADE)
    const first = await client.readHead()
    expect([first.status, first.headers.get('link')]).toEqual([103, '</a>'])
    expect((await client.readAnswer()).status).toBe(403)

    informations = 1000
    const flooded = bench.client(gateway)
    flooded.send('GET / HTTP/1.1', ...UPGRADE)
    const text = await flooded.readAll()
    expect(text.match(/HTTP\/1\.1 103/g)?.length).toBeLessThan(40)
    expect(text).toContain('HTTP/1.1 502')
  })

  describe.each(['h2c', 'foo/1', 'websocket, h2c'])('to another protocol (%s)', (protocol) => {
    const OTHER = [
      'Host: a',
      'Connection: Upgrade, HTTP2-Settings',
      `Upgrade: ${protocol}`,
      'HTTP2-Settings: AAMA',
    ]
    const BODY = 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n'

    it.each([
      ['nothing', [], ''],
      ['a body', [`Content-Length: ${HIDDEN.length}`], HIDDEN],
      [
        'a chunked body',
        ['Transfer-Encoding: chunked'],
        `${HIDDEN.length.toString(16)}\r\n${HIDDEN}\r\n0\r\n\r\n`,
      ],
    ])(
      'answers the request with %s behind it as usual, and nothing that follows',
      async (_name, fields, body) => {
        const upstream = await bench.upstream(startHttpUpstream())
        const gateway = await bench.gateway({ upstream: upstream.url })
        const method = body === '' ? 'GET' : 'POST'
        const parts = [
          [`${method} /outer HTTP/1.1`, ...OTHER, ...fields, '', body].join('\r\n'),
          `POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: ${BODY.length}\r\n\r\n`,
          BODY,
        ]
        for (const [first = '', ...rest] of [parts, [parts.join('')], [parts[0] + (parts[1] ?? ''), BODY]]) {
          upstream.seen.length = 0
          const client = bench.client(gateway)
          client.write(first)
          for (const part of rest) {
            await new Promise((resolve) => setTimeout(resolve, 20))
            if (client.socket.writable) client.write(part)
          }
          const text = await client.readAll()
          expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200'])
          expect(text).toMatch(/\r\nConnection: close\r\n/)
          expect(upstream.seen.map((request) => request.target)).toEqual(['/outer'])
          expect(upstream.seen[0]?.body.toString()).toBe(body === '' ? '' : HIDDEN)
        }
        expect(gateway.records.map((record) => record.path)).toEqual(['/outer', '/outer', '/outer'])
      },
    )

    it('takes nothing behind it while it waits for its turn', async () => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({ upstream: upstream.url })
      const client = bench.client(gateway)
      client.write(
        'GET /first HTTP/1.1\r\nHost: a\r\n\r\n',
        `GET /outer HTTP/1.1\r\n${OTHER.join('\r\n')}\r\n\r\n`,
      )
      client.write(HIDDEN)
      const text = await client.readAll()
      expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 200'])
      expect(upstream.seen.map((request) => request.target)).toEqual(['/first', '/outer'])
    })
  })
})
