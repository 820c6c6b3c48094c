import { once } from 'node:events'
import { Agent, request as sendRequest } from 'node:http'
import { connect, createServer } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { hashToken } from '../../src/app/tokens.ts'
import { PROCEDURES } from '../../src/control-plane/procedure-table.ts'
import { SCRIPT_CALLS } from '../../src/control-plane/script-calls.ts'
import { openTestAdmin, type TestAdmin } from '../support/admin-listener.ts'
import { toOutage } from '../support/memory-key-store.ts'
import { createTenant, send } from '../support/rpc-client.ts'

let admin: TestAdmin
beforeEach(async () => {
  admin = await openTestAdmin()
})
afterEach(() => admin.close())

const get = (path: string, headers: Record<string, string> = {}) =>
  send(admin.origin, path, { method: 'GET', headers })

/** Everything that comes back on a connection until the listener closes it. */
async function exchange(port: number, ...parts: string[]): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  let received = ''
  socket.setEncoding('latin1').on('data', (chunk: string) => {
    received += chunk
  })
  for (const part of parts) socket.write(part, 'latin1')
  await once(socket, 'close')
  return received
}

describe('health', () => {
  it('/livez and /healthz answer while the process runs, whatever the store does', async () => {
    admin.store.failure = toOutage()
    expect(await get('/livez')).toMatchObject({ status: 200, text: '{"live":true}' })
    expect(await get('/healthz')).toMatchObject({ status: 200, text: '{"healthy":true}' })
  })

  it('/readyz is 200 only while the store and the process are ready, and names the checks', async () => {
    const ready = await get('/readyz?verbose')
    expect(ready.status).toBe(200)
    expect(JSON.parse(ready.text)).toEqual({ ready: true, checks: { listeners: 'ok', store: 'ok' } })
    admin.store.failure = toOutage()
    const silent = await get('/readyz')
    expect(silent.status).toBe(503)
    expect(JSON.parse(silent.text)).toEqual({
      ready: false,
      checks: { listeners: 'ok', store: 'unavailable' },
    })
    admin.store.failure = undefined
    expect((await get('/readyz')).status).toBe(200)
  })

  it('/readyz is 503 when the process says so or cannot say', async () => {
    for (const readiness of [
      async () => ({ ready: false, checks: { listeners: 'closed' } }),
      () => Promise.reject(new Error('thread 3 is gone')),
    ]) {
      const other = await openTestAdmin({ readiness })
      try {
        const answer = await send(other.origin, '/readyz', { method: 'GET' })
        expect(answer.status).toBe(503)
        expect(answer.text).not.toContain('thread 3')
      } finally {
        await other.close()
      }
    }
  })

  it('/readyz is 503 from the first moment of a drain, while everything else goes on', async () => {
    admin.drain()
    expect(await get('/readyz')).toMatchObject({
      status: 503,
      text: '{"ready":false,"checks":{"drain":"draining"}}',
    })
    expect((await get('/livez')).status).toBe(200)
    await admin.client.ok('keyspaces.list')
  })

  it('answers HEAD like GET without a body, and other methods with 405', async () => {
    for (const path of ['/livez', '/readyz', '/healthz', '/metrics', '/openapi.json']) {
      const [got, head] = [await get(path), await send(admin.origin, path, { method: 'HEAD' })]
      expect([head.status, head.text]).toEqual([200, ''])
      expect(head.headers['content-length']).toBe(String(Buffer.byteLength(got.text)))
      const wrong = await send(admin.origin, path, { method: 'POST' })
      expect([wrong.status, wrong.headers.allow]).toEqual([405, 'GET, HEAD'])
    }
  })

  it('/metrics renders what the Accept field asks for', async () => {
    const answer = await get('/metrics', { accept: 'application/openmetrics-text' })
    expect(answer).toMatchObject({ status: 200, text: 'up 1 application/openmetrics-text\n' })
    expect(answer.headers['content-type']).toBe('text/plain')
  })

  it('has no other page yet', async () => {
    for (const path of ['/', '/script', '/favicon.ico', '/livez/', '/..;/livez']) {
      expect(await get(path)).toMatchObject({ status: 404, text: '{"error":"not found"}' })
    }
  })
})

describe('/openapi.json', () => {
  // biome-ignore lint/suspicious/noExplicitAny: a document is walked the way its readers do.
  let document: any
  beforeEach(async () => {
    document = JSON.parse((await get('/openapi.json')).text)
  })

  it('describes every procedure, with its examples and errors', () => {
    expect(document.openapi).toMatch(/^3\.1\./)
    expect(document.info.version).toBe('0.0.0-test')
    expect(Object.keys(document.paths)).toEqual([
      ...PROCEDURES.map(({ name }) => `/v1/${name}`),
      ...SCRIPT_CALLS.map(({ name }) => `/script/${name}`),
    ])
    for (const { name } of PROCEDURES) {
      const { post } = document.paths[`/v1/${name}`]
      expect(post.operationId).toBe(name)
      expect(Object.keys(post.responses)).toEqual(expect.arrayContaining(['200', '401', '500', '503']))
      expect('requestBody' in post).toBe(name !== 'serviceKeys.current')
    }
    const { responses } = document.paths['/v1/keys.check'].post
    expect(Object.keys(responses)).toEqual(expect.arrayContaining(['404', '419', '422', '429']))
    expect(responses['429'].headers['Retry-After'].schema.type).toBe('integer')
  })

  it('has no reference that leads nowhere, and no schema without a use', () => {
    const { schemas } = document.components
    const refs = new Set(JSON.stringify(document).match(/"\$ref":"[^"]*"/g))
    const names = [...refs].map((ref) => ref.slice('"$ref":"#/components/schemas/'.length, -1))
    expect(names.filter((name) => !(name in schemas))).toEqual([])
    expect(Object.keys(schemas).filter((name) => !names.includes(name))).toEqual([])
    for (const name of Object.keys(schemas)) expect(name).toMatch(/^[A-Za-z0-9._-]+$/)
  })

  it('says what is needed and within which bounds', () => {
    const create = document.components.schemas['keys.create.params']
    expect(create.required).toEqual(['ksid'])
    expect(JSON.stringify(create.properties.ratelimit)).toContain('2147483647')
    expect(document.components.schemas['keyspaces.update.params'].required).toEqual(['ksid'])
    expect(document.components.schemas['serviceKeys.get.params']).not.toHaveProperty('required')
    expect(document.components.schemas.Key.required).toEqual(['kid', 'ksid', 'created_at'])
    expect(document.components.securitySchemes.serviceKey).toMatchObject({ type: 'http', scheme: 'bearer' })
  })

  it('shows examples that its own schemas accept', () => {
    for (const { params, result, example } of PROCEDURES) {
      params.parse(example.params)
      expect(result.parse(example.result)).toEqual(example.result)
    }
  })
})

describe('failures', () => {
  it('503 store unavailable while the store is silent, with nothing of why', async () => {
    const { ksid } = await admin.client.ok('keyspaces.create', { name: 'a', keys_prefix: 'a_' })
    const { token } = await admin.client.ok('keys.create', { ksid })
    admin.store.failure = toOutage()
    const answer = await admin.client.call('keys.check', { ksid, token })
    expect([answer.status, answer.text]).toEqual([503, '{"error":"store unavailable"}'])
    expect(answer.headers['retry-after']).toBe('1')
    expect(admin.logger.lines.filter(({ level }) => level === 'warn')).toHaveLength(1)
    admin.store.failure = undefined
    await admin.client.ok('keys.check', { ksid, token })
  })

  it('500 internal server error for what nobody expected, logged under the id of the answer', async () => {
    admin.store.failure = new Error('SELECT secret FROM disk', { cause: new Error('the deeper reason') })
    const answer = await admin.client.call('keyspaces.list')
    expect([answer.status, answer.text]).toEqual([500, '{"error":"internal server error"}'])
    const [line] = admin.logger.lines.filter(({ level }) => level === 'error')
    expect(line?.fields).toMatchObject({
      request_id: answer.headers['x-request-id'],
      procedure: 'keyspaces.list',
      error: expect.stringMatching(/SELECT secret FROM disk[\s\S]*the deeper reason/),
    })
  })

  it('500 when the metrics cannot be rendered', async () => {
    const broken = await openTestAdmin({
      metrics: {
        render: () => Promise.reject(new Error('inside')),
        countAdminRequest: () => {},
        countScriptCall: () => {},
      },
    })
    try {
      const answer = await send(broken.origin, '/metrics', { method: 'GET' })
      expect([answer.status, answer.text]).toEqual([500, '{"error":"internal server error"}'])
      expect(broken.logger.lines.at(-1)).toMatchObject({ level: 'error' })
    } finally {
      await broken.close()
    }
  })

  it('logs who changed what, and never a token', async () => {
    const { token, skid } = await admin.client.ok('serviceKeys.create', { admin: true })
    const other = admin.client.as(token)
    await other.ok('keyspaces.create', { name: 'a', keys_prefix: 'a_' })
    await other.call('serviceKeys.set_token', { skid, token: 'a-token-of-my-own-making' })
    const written = admin.logger.lines.filter(({ level }) => level === 'info').map(({ fields }) => fields)
    expect(written).toMatchObject([
      { procedure: 'serviceKeys.create', skid: 'sk_root', status: 200 },
      { procedure: 'keyspaces.create', skid, status: 200 },
      { procedure: 'serviceKeys.set_token', skid, status: 200 },
    ])
    const log = JSON.stringify(admin.logger.lines)
    for (const secret of [token, 'a-token-of-my-own-making', admin.client.token])
      expect(log).not.toContain(secret)
  })
})

describe('what reaches the store', () => {
  it('is a plain zero where -0 was sent', async () => {
    const { ksid } = await admin.client.ok('keyspaces.create', { name: 'a', keys_prefix: 'a_' })
    const body = `{"ksid":"${ksid}","expires_in":-0,"ratelimit":{"limit":1,"refill_rate":-0,"refill_interval":-0.0}}`
    const { kid } = await admin.client.ok('keys.create', body)
    // toEqual tells 0 from -0.
    const limit = { capacity: 1, rate: 0, intervalMs: 0 }
    expect((await admin.store.findKey(ksid, kid))?.key).toMatchObject({ ownLimit: limit, limit })
    expect((await admin.store.findKey(ksid, kid))?.key.ownLimit).toEqual(limit)
  })

  it('is the hash of a token, never the token', async () => {
    const { ksid } = await admin.client.ok('keyspaces.create', { name: 'a', keys_prefix: 'a_' })
    const { token, kid } = await admin.client.ok('keys.create', { ksid })
    expect((await admin.store.findKeyByToken(hashToken(token)))?.key.kid).toBe(kid)
    expect(await admin.store.findKeyByToken(token)).toBeUndefined()
  })
})

describe('reload', () => {
  it('a changed root token and expiry rule hold from the next request on', async () => {
    admin.settings = { ...admin.settings, root_token: 'another-root-token', require_expiration: true }
    expect((await admin.client.call('serviceKeys.current')).status).toBe(401)
    const root = admin.client.as('another-root-token')
    const { ksid } = await root.ok('keyspaces.create', { name: 'a', keys_prefix: 'a_' })
    expect((await root.call('keys.create', { ksid })).status).toBe(460)
  })

  it('without a root token nobody is root, not even with an empty one', async () => {
    for (const root_token of ['', undefined]) {
      admin.settings = { ...admin.settings, root_token }
      for (const authorization of ['Bearer ', 'Bearer undefined', '', 'Bearer root-token-of-the-tests']) {
        const headers = { authorization }
        expect((await send(admin.origin, '/v1/serviceKeys.current', { headers })).status).toBe(401)
      }
    }
  })
})

describe('the listener', () => {
  it('refuses a taken port with an error that names it and says what to do', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const address = other.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    const attempt = openTestAdmin({ settings: { listen: { host: '127.0.0.1', port } } })
    await expect(attempt).rejects.toThrow(
      new RegExp(`127\\.0\\.0\\.1:${port}: the address is in use\\..*set admin\\.listen`),
    )
    await new Promise((resolve) => other.close(resolve))
  })

  it('refuses an address that is not here', async () => {
    const attempt = openTestAdmin({ settings: { listen: { host: '192.0.2.1', port: 0 } } })
    await expect(attempt).rejects.toThrow(/192\.0\.2\.1:0: this machine has no such address/)
  })

  it('answers what is no HTTP with 400, and too many header bytes with 431, in JSON', async () => {
    const { port } = admin.address
    const garbage = await exchange(port, 'GET / HTTP/9.9\r\n\r\n')
    expect(garbage).toMatch(/^HTTP\/1\.1 400 [\s\S]*Connection: close\r\n\r\n\{"error":"bad request"\}$/)
    const flood = await exchange(port, `GET /livez HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`)
    expect(flood).toMatch(/^HTTP\/1\.1 431 [\s\S]*\{"error":"request header fields too large"\}$/)
    expect((await get('/livez')).status).toBe(200)
  })

  it('gives slow heads and slow bodies up with 408', async () => {
    const slow = await openTestAdmin({ timeouts: { headersMs: 100, requestMs: 200 } })
    try {
      const { port } = slow.address
      const head = await exchange(port, 'POST /v1/keyspaces.list HTTP/1.1\r\nHost: a\r\n')
      expect(head).toMatch(/^HTTP\/1\.1 408 /)
      const fields = `Authorization: ${slow.client.token}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n`
      const body = await exchange(port, `POST /v1/keyspaces.list HTTP/1.1\r\nHost: a\r\n${fields}\r\n{`)
      expect(body).toMatch(/^HTTP\/1\.1 408 [\s\S]*\{"error":"request timeout"\}$/)
      expect(slow.logger.lines.filter(({ level }) => level === 'error')).toEqual([])
    } finally {
      await slow.close()
    }
  })

  it('keeps connections alive, and survives clients that leave in the middle', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    const ports = new Set<number | undefined>()
    for (let i = 0; i < 3; i++) {
      const request = sendRequest(`${admin.origin}/v1/keyspaces.list`, { method: 'POST', agent })
      request.end('{"some":"body"}')
      const [response] = await once(request, 'response')
      ports.add(request.socket?.localPort)
      response.resume()
      await once(response, 'end')
    }
    agent.destroy()
    expect(ports.size).toBe(1)
    for (const part of ['POST /v1', 'POST /v1/keys.get HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{']) {
      const socket = connect(admin.address.port, '127.0.0.1')
      await once(socket, 'connect')
      socket.write(part)
      socket.resetAndDestroy()
    }
    expect((await get('/livez')).status).toBe(200)
  })

  it('close lets a running request finish, takes no new ones, and does not wait for idle connections', async () => {
    const { port } = admin.address
    const idle = connect(port, '127.0.0.1')
    idle.on('error', () => {})
    idle.resume().write('GET /livez HTTP/1.1\r\nHost: a\r\n\r\n')
    await once(idle, 'data')
    const running = connect(port, '127.0.0.1')
    let received = ''
    running.setEncoding('latin1').on('data', (chunk: string) => {
      received += chunk
    })
    const { token } = await createTenant(admin.client, {})
    admin.store.calls.length = 0
    const fields = `Authorization: ${token}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n`
    running.write(`POST /v1/keyspaces.list HTTP/1.1\r\nHost: a\r\n${fields}\r\n{`)
    await expect.poll(() => admin.store.calls).toEqual(['findServiceKeyByToken'])
    const closed = admin.close()
    const startedMs = performance.now()
    await expect(get('/livez')).rejects.toThrow('ECONNREFUSED')
    running.write('}')
    await Promise.all([closed, once(running, 'close')])
    expect(received).toMatch(/^HTTP\/1\.1 200 [\s\S]*"keyspaces":\[\]\}$/)
    expect(performance.now() - startedMs).toBeLessThan(2_500)
    await admin.close()
  })

  it('close cuts off what does not end in time', async () => {
    const stuck = await openTestAdmin({ timeouts: { closeMs: 50 } })
    const socket = connect(stuck.address.port, '127.0.0.1')
    socket.on('error', () => {})
    await once(socket, 'connect')
    socket.resume().write('POST /v1/keys.get HTTP/1.1\r\nHost: a\r\n')
    await send(stuck.origin, '/livez', { method: 'GET' })
    const startedMs = performance.now()
    await Promise.all([stuck.close(), once(socket, 'close')])
    expect(performance.now() - startedMs).toBeLessThan(2_500)
  })
})
