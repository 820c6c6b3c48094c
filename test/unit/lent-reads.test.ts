import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, expect, it } from 'vitest'
import { lendReads, type OnRead } from '../../src/data-plane/front/lent-reads.ts'

const open: { close(): void }[] = []

afterEach(() => {
  for (const each of open.splice(0)) each.close()
})

async function listen(): Promise<Server> {
  const server = createServer({ allowHalfOpen: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  open.push(server)
  return server
}

/** A new connection, both ends of it. */
async function accept(server: Server): Promise<{ client: Socket; socket: Socket }> {
  const coming = once(server, 'connection')
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [socket] = (await coming) as [Socket]
  open.push({ close: () => client.destroy() }, { close: () => socket.destroy() })
  return { client, socket }
}

/** A server whose sockets read into `buffer`, which `onRead` hears of. */
async function lend(buffer: Buffer, onRead: OnRead): Promise<Server> {
  const server = await listen()
  if (!lendReads(server, buffer, onRead)) throw new Error('Node lends nothing any more: see lent-reads.ts')
  return server
}

it('the sockets of a server read into memory of ours, with the Node that comes with the project', async () => {
  const buffer = Buffer.alloc(16)
  const reads: [number, string][] = []
  const server = await lend(buffer, (socket, length) => {
    reads.push([socket.remotePort ?? 0, buffer.toString('latin1', 0, length)])
    return true
  })
  const { client, socket } = await accept(server)
  socket.resume()
  const ended = once(socket, 'end')
  client.end('0123456789abcdefGHIJ')
  await ended
  expect(reads).toEqual([
    [client.localPort, '0123456789abcdef'],
    [client.localPort, 'GHIJ'],
  ])
  expect(socket.remotePort).toBe(client.localPort)

  const answered = once(client, 'data')
  const closed = once(socket, 'close')
  socket.end('still open')
  expect(String((await answered)[0])).toBe('still open')
  await closed
})

it('stops and goes on as it is told', async () => {
  let bytes = 0
  const server = await lend(Buffer.alloc(4), (_socket, length) => {
    bytes += length
    return bytes < 4
  })
  const { client, socket } = await accept(server)
  client.write('01234567')
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(bytes).toBe(4)
  socket.resume()
  while (bytes < 8) await new Promise((resolve) => setTimeout(resolve, 1))
})

it('a server closes without waiting for them', async () => {
  const server = await lend(Buffer.alloc(4), () => true)
  await accept(server)
  await new Promise((resolve) => server.close(resolve))
})

it('leaves a server alone where Node is not as expected', async () => {
  const server = await listen()
  const strange = new Proxy(server, {
    get: (target, name) =>
      name === '_handle' ? { onconnection: () => {} } : Reflect.get(target, name, target),
  })
  expect(lendReads(strange, Buffer.alloc(4), () => true)).toBe(false)
  const { client, socket } = await accept(server)
  const coming = once(socket, 'data')
  client.write('as before')
  expect(String((await coming)[0])).toBe('as before')
})

it('a connection that could not be accepted is told to the server as ever', async () => {
  const server = await lend(Buffer.alloc(4), () => true)
  const { _handle: handle } = server as unknown as { _handle: { onconnection(error: number): void } }
  const failed = once(server, 'error')
  handle.onconnection(-24)
  expect((await failed)[0]).toMatchObject({ code: 'EMFILE', syscall: 'accept' })
})
