import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { afterEach, expect, it } from 'vitest'
import { lendReads } from '../../src/data-plane/front/lent-reads.ts'

const open: { close(): void }[] = []

afterEach(() => {
  for (const each of open.splice(0)) each.close()
})

/** A connection, both ends of it; the server has not begun to read. */
async function accept(): Promise<{ client: Socket; accepted: Socket }> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const coming = once(server, 'connection')
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [accepted] = (await coming) as [Socket]
  open.push(server, { close: () => client.destroy() }, { close: () => accepted.destroy() })
  return { client, accepted }
}

it('the sockets of a server read into memory of ours, with the Node that comes with the project', async () => {
  const { client, accepted } = await accept()
  const buffer = Buffer.alloc(16)
  const reads: string[] = []
  const socket = lendReads(accepted, buffer, (length) => {
    reads.push(buffer.toString('latin1', 0, length))
    return true
  })
  if (socket === undefined) throw new Error('Node lends nothing any more: see lent-reads.ts')
  open.push({ close: () => socket.destroy() })
  const ended = once(socket, 'end')
  client.end('0123456789abcdefGHIJ')
  await ended
  expect(reads).toEqual(['0123456789abcdef', 'GHIJ'])
  expect(socket.remotePort).toBe(client.localPort)

  const answered = once(client, 'data')
  const closed = once(socket, 'close')
  socket.end('still open')
  expect(String((await answered)[0])).toBe('still open')
  await closed
})

it('stops and goes on as it is told', async () => {
  const { client, accepted } = await accept()
  const buffer = Buffer.alloc(4)
  let bytes = 0
  const socket = lendReads(accepted, buffer, (length) => {
    bytes += length
    return bytes < 4
  })
  if (socket === undefined) throw new Error('Node lends nothing any more: see lent-reads.ts')
  open.push({ close: () => socket.destroy() })
  client.write('01234567')
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(bytes).toBe(4)
  socket.resume()
  while (bytes < 8) await new Promise((resolve) => setTimeout(resolve, 1))
})

it('leaves an accepted socket alone where Node is not as expected', async () => {
  const { client, accepted } = await accept()
  const handle = Object.getOwnPropertyDescriptor(accepted, '_handle')
  const strange = new Proxy(accepted, {
    get: (target, name) => (name === '_handle' ? {} : Reflect.get(target, name, target)),
  })
  expect(lendReads(strange, Buffer.alloc(4), () => true)).toBeUndefined()
  expect(Object.getOwnPropertyDescriptor(accepted, '_handle')).toEqual(handle)
  const coming = once(accepted, 'data')
  accepted.resume()
  client.write('as before')
  expect(String((await coming)[0])).toBe('as before')
})
