import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { connect as connectTls, createServer as createTlsServer } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import { SocketWriter } from '../../src/data-plane/http1/socket-writer.ts'
import { WriteRoom } from '../../src/data-plane/http1/write-room.ts'
import { createDice } from '../support/http1-corpus.ts'
import { TEST_TLS } from '../support/test-tls.ts'

const open: { close(): void }[] = []

afterEach(() => {
  for (const each of open.splice(0)) each.close()
})

interface Ends {
  /** Writes. */
  readonly socket: Socket
  /** Reads, once it is told to. */
  readonly peer: Socket
}

async function connectPlain(): Promise<Ends> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const coming = once(server, 'connection')
  const peer = connect((server.address() as AddressInfo).port, '127.0.0.1')
  peer.pause()
  const [socket] = (await coming) as [Socket]
  return keep(server, { socket, peer })
}

async function connectSecurely(): Promise<Ends> {
  const server = createTlsServer(TEST_TLS)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const coming = once(server, 'secureConnection')
  const peer = connectTls({
    port: (server.address() as AddressInfo).port,
    host: '127.0.0.1',
    rejectUnauthorized: false,
  })
  peer.pause()
  const [socket] = (await coming) as [Socket]
  return keep(server, { socket, peer })
}

function keep(server: { close(): void }, ends: Ends): Ends {
  open.push(server, { close: () => ends.socket.destroy() }, { close: () => ends.peer.destroy() })
  ends.socket.on('error', () => {})
  ends.peer.on('error', () => {})
  return ends
}

/** A writer, and what it says of what it could not get rid of at once. */
function write(socket: Socket): {
  writer: SocketWriter
  drains: () => number
  untilDrained: () => Promise<void>
} {
  let drains = 0
  let onDrain = () => {}
  const writer = new SocketWriter(socket, () => {
    drains++
    onDrain()
  })
  const untilDrained = () =>
    new Promise<void>((resolve) => {
      onDrain = resolve
    })
  return { writer, drains: () => drains, untilDrained }
}

function untilClosed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once('close', () => resolve())
  })
}

/** More than the system keeps for any connection. */
const FLOOD = Buffer.alloc(16 * 1024 * 1024, 'x')

it('passes the stream by, with the Node that comes with the project', async () => {
  const { socket, peer } = await connectPlain()
  let throughStream = 0
  const { write: toStream } = socket
  socket.write = ((...rest: Parameters<typeof toStream>) => {
    throughStream++
    return toStream.apply(socket, rest)
  }) as typeof toStream
  const { writer } = write(socket)
  expect(writer.write('caf\xe9 ')).toBe(true)
  expect(writer.write(Buffer.from('bytes'))).toBe(true)
  expect(writer.isPending).toBe(false)
  const [chunk] = await once(peer.resume(), 'data')
  expect(chunk.toString('latin1')).toBe('caf\xe9 bytes')
  // If this is no longer 0, see socket-writer.ts: Node's insides have changed.
  expect(throughStream).toBe(0)
})

describe.each([
  ['over a plain socket', connectPlain],
  ['over TLS', connectSecurely],
])('%s', (_name, connectEnds) => {
  it('says when what waited has left, and keeps what waits as it was', async () => {
    const { socket, peer } = await connectEnds()
    const { writer, drains, untilDrained } = write(socket)
    const flood = Buffer.from(FLOOD)
    expect(writer.write(flood)).toBe(false)
    expect(writer.isPending).toBe(true)
    writer.write('and text')
    expect(drains()).toBe(0)
    const drained = untilDrained()
    let bytes = 0
    let last = ''
    peer.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      last = (last + chunk.toString('latin1')).slice(-8)
    })
    peer.resume()
    await drained
    expect(writer.isPending).toBe(false)
    socket.end()
    await once(peer, 'end')
    expect([bytes, last, drains()]).toEqual([FLOOD.length + 8, 'and text', 1])
  })

  it('is through with all of it before the end', async () => {
    const { socket, peer } = await connectEnds()
    const { writer } = write(socket)
    writer.write(FLOOD)
    writer.write('the last')
    socket.destroySoon()
    let bytes = 0
    peer.on('data', (chunk: Buffer) => {
      bytes += chunk.length
    })
    await once(peer.resume(), 'end')
    expect(bytes).toBe(FLOOD.length + 8)
  })

  it.each([1, 2, 3])(
    'text, bytes and reused memory arrive in order from a peer that reads now and then (%i)',
    async (seed) => {
      const { socket, peer } = await connectEnds()
      const dice = createDice(seed)
      const { writer, untilDrained } = write(socket)
      const room = new WriteRoom()
      const sent = createHash('sha256')
      const received = createHash('sha256')
      let waits = 0
      peer.on('data', (chunk: Buffer) => received.update(chunk)).pause()

      const writePiece = (fill: number): boolean => {
        const length = dice.roll(dice.roll(3) === 0 ? 80_000 : 3000) + 1
        if (dice.roll(2) === 0) {
          const text = String.fromCharCode(fill & 0xff).repeat(length)
          sent.update(text, 'latin1')
          return writer.write(text)
        }
        const bytes = room.take(length)
        bytes.fill(fill)
        sent.update(bytes)
        return room.write(writer, bytes)
      }

      for (let i = 0; i < 1200; i++) {
        // Some go on where they were asked not to.
        if (writePiece(i) || dice.roll(4) === 0) continue
        waits++
        const drained = untilDrained()
        peer.resume()
        await drained
        peer.pause()
      }
      socket.end()
      await once(peer.resume(), 'end')
      expect(received.digest('hex')).toBe(sent.digest('hex'))
      expect(waits).toBeGreaterThan(2)
    },
  )
})

it('a peer that resets ends the socket, and nobody is told that it drained', async () => {
  const { socket, peer } = await connectPlain()
  const { writer, drains } = write(socket)
  writer.write(FLOOD)
  const closed = untilClosed(socket)
  peer.resetAndDestroy()
  await closed
  expect(socket.errored).toMatchObject({ code: expect.stringMatching(/^(EPIPE|ECONNRESET)$/) })
  expect(writer.write('too late')).toBe(false)
  expect(drains()).toBe(0)
})

it('what waits when the socket is destroyed is dropped', async () => {
  const { socket } = await connectPlain()
  const { writer, drains } = write(socket)
  writer.write(FLOOD)
  const closed = untilClosed(socket)
  socket.destroy()
  await closed
  expect(drains()).toBe(0)
  expect(socket.errored).toBe(null)
})
