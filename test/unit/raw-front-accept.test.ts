import { connect, type Socket } from 'node:net'
import { expect, it } from 'vitest'
import { openFront } from '../../src/data-plane/front/open-front.ts'
import type { FrontHandler } from '../../src/ports/transport.ts'

const CLIENTS = 64
const handler: FrontHandler = {
  accept: () => expect.fail('nobody asks for anything'),
  refuse: () => expect.fail('nobody says anything'),
}

it('takes more than one new connection in each turn of the event loop', async () => {
  let open = 0
  const front = await openFront('raw', {
    handler,
    host: '127.0.0.1',
    port: 0,
    reusePort: true,
    tls: undefined,
    http2: false,
    headLimits: { headersMax: 100, targetBytesMax: 8192 },
    headerBytesMax: 16_384,
    headersTimeoutMs: 10_000,
    idleTimeoutMs: 60_000,
    bodyTimeoutMs: 0,
    bodyBytesPerSecondMin: 0,
    onConnections: (change) => {
      open += change
    },
    onCutOff: () => {},
  })
  const clients: Socket[] = []
  for (let i = 0; i < CLIENTS; i++)
    clients.push(connect(front.address.port, '127.0.0.1').on('error', () => {}))
  let turns = 0
  for (; open < CLIENTS && turns < 10_000; turns++) await new Promise((resolve) => setImmediate(resolve))
  expect(open).toBe(CLIENTS)
  // With one listener it is a turn for each.
  expect(turns).toBeLessThan(CLIENTS / 2)
  for (const client of clients) client.destroy()
  await front.close(1000)
  expect(open).toBe(0)
})
