import { describe, expect, it } from 'vitest'
import { useProxy } from '../support/proxy-bench.ts'
import { ENGINE_PAIRS, KSID, startGatewayWith, TOKEN } from '../support/proxy-gateway.ts'
import { startHttpUpstream } from '../support/upstreams.ts'

const HIDDEN = 'GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n'

describe.each(ENGINE_PAIRS)('requests hidden in requests ($front front, $upstream upstream)', (engines) => {
  const bench = useProxy({ startGateway: startGatewayWith(engines) })

  it.each(['GET', 'DELETE', 'OPTIONS', 'POST', 'HEAD'])(
    'keeps a hidden request in the body of a %s a body',
    async (method) => {
      const upstream = await bench.upstream(startHttpUpstream())
      const gateway = await bench.gateway({ upstream: upstream.url })
      for (const framing of ['length', 'chunked']) {
        const client = bench.client(gateway)
        const field = framing === 'length' ? `Content-Length: ${HIDDEN.length}` : 'Transfer-Encoding: chunked'
        const body = framing === 'length' ? HIDDEN : `${HIDDEN.length.toString(16)}\r\n${HIDDEN}\r\n0\r\n\r\n`
        client.send(`${method} /outer HTTP/1.1`, 'Host: a', field)
        client.write(body)
        expect((await client.readAnswer(method)).status).toBe(200)
        client.send('GET /next HTTP/1.1', 'Host: a')
        expect((await client.readAnswer()).status).toBe(200)
      }
      expect(upstream.seen.map((request) => request.target)).toEqual(['/outer', '/next', '/outer', '/next'])
      expect(upstream.seen[0]?.body.toString()).toBe(HIDDEN)
      expect(upstream.seen[2]?.body.toString()).toBe(HIDDEN)
    },
  )

  it.each([
    ['401', 401, []],
    ['404', 404, []],
    ['413', 413, [`X-API-KEY: ${TOKEN}`]],
    ['400', 400, ['X-API-KEY: a', 'X-API-KEY: b']],
  ])('never runs a request hidden in the body of one answered %s', async (_name, status, fields) => {
    const upstream = await bench.upstream(startHttpUpstream())
    const routes = [{ upstream: 'main', keyspace: KSID, max_body: 4, match: { path: '/keyed' } }]
    const gateway = await bench.gateway({ upstream: upstream.url, routes })
    for (const framing of ['length', 'chunked']) {
      const client = bench.client(gateway)
      const field = framing === 'length' ? `Content-Length: ${HIDDEN.length}` : 'Transfer-Encoding: chunked'
      const body = framing === 'length' ? HIDDEN : `${HIDDEN.length.toString(16)}\r\n${HIDDEN}\r\n0\r\n\r\n`
      client.write(`POST ${status === 404 ? '/lost' : '/keyed'} HTTP/1.1\r\n`)
      client.send('Host: a', field, ...fields)
      client.write(body)
      expect((await client.readAnswer()).status).toBe(status)
      client.send('GET /end HTTP/1.1', 'Host: a', 'Connection: close')
      await client.closed()
    }
    expect(gateway.records.map((record) => record.path)).not.toContain('/hidden')
    expect(upstream.seen).toHaveLength(0)
  })

  it('lets no Connection field remove what the gateway adds', async () => {
    const upstream = await bench.upstream(startHttpUpstream())
    const routes = [{ upstream: 'main', keyspace: KSID }]
    const gateway = await bench.gateway({ upstream: upstream.url, routes })
    const client = bench.client(gateway)
    client.send(
      'POST / HTTP/1.1',
      'Host: a.test',
      `X-API-KEY: ${TOKEN}`,
      'Connection: Host, Content-Length, X-Forwarded-For, X-Dripgate-Key-Id, Via, X-Request-Id, Forwarded',
      'Content-Length: 2',
    )
    client.write('hi')
    expect((await client.readAnswer()).status).toBe(200)
    const [seen] = upstream.seen
    expect(seen?.body.toString()).toBe('hi')
    expect(seen?.headers).toMatchObject({
      host: 'a.test',
      'content-length': '2',
      'x-forwarded-for': '127.0.0.1',
      'x-dripgate-key-id': 'k_1',
      via: '1.1 dripgate',
    })
  })

  it('writes no line of its own making from an encoded one', async () => {
    const upstream = await bench.upstream(startHttpUpstream())
    const gateway = await bench.gateway({ upstream: upstream.url })
    const client = bench.client(gateway)
    client.send('GET /a%0d%0aX-Injected:%201?b=%0d%0a HTTP/1.1', 'Host: a', 'X-Request-Id: a%0d%0ab')
    const answer = await client.readAnswer()
    expect(answer.status).toBe(200)
    expect(answer.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
    expect(upstream.seen[0]?.target).toBe('/a%0d%0aX-Injected:%201?b=%0d%0a')
    expect(upstream.seen[0]?.headers['x-injected']).toBeUndefined()
  })
})
