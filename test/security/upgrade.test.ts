import { describe, expect, it } from 'vitest'
import { useProxy } from '../support/proxy-bench.ts'
import { eventually, KSID, startNodeGateway } from '../support/proxy-gateway.ts'
import { startRawUpstream } from '../support/upstreams.ts'

const UPGRADE = [
  'Host: a',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
]
const HIDDEN = 'GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n'

describe('upgrades that are none', () => {
  const bench = useProxy({ startGateway: startNodeGateway })

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
})
