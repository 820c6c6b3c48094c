import { describe, expect, it } from 'vitest'
import { ask, connectHttp2 } from '../support/http2-client.ts'
import { encodeFields, encodeRequest, FLAG, FRAME, type FrameClient } from '../support/http2-frames.ts'
import { useProxy } from '../support/proxy-bench.ts'
import { eventually, startGatewayWith } from '../support/proxy-gateway.ts'
import { TEST_TLS } from '../support/test-tls.ts'
import { startHttpUpstream, startStreamingUpstream } from '../support/upstreams.ts'

/** Clients that make more work than they have: each is cut off within 1,000 frames or 64 KiB. */

const FRAMES_MAX = 1000
const BYTES_MAX = 64 * 1024
const CANCEL = Buffer.from([0, 0, 0, 8])

type Step = (client: FrameClient, n: number) => void

const openStream: Step = (client, n) =>
  client.send(FRAME.headers, FLAG.endHeaders | FLAG.endStream, 2 * n + 1, encodeRequest('GET', '/'))

const FLOODS: readonly { readonly name: string; readonly reason: string; readonly step: Step }[] = [
  {
    name: 'streams that are reset at once (CVE-2023-44487)',
    reason: 'resets',
    step: (client, n) => {
      openStream(client, n)
      client.send(FRAME.reset, 0, 2 * n + 1, CANCEL)
    },
  },
  {
    name: 'streams that are reset without an error',
    reason: 'resets',
    step: (client, n) => {
      openStream(client, n)
      client.send(FRAME.reset, 0, 2 * n + 1, Buffer.alloc(4))
    },
  },
  {
    name: 'a head that never ends (CVE-2024-27983)',
    reason: 'continuations',
    step: (client, n) => {
      if (n === 0) client.send(FRAME.headers, FLAG.endStream, 1, encodeRequest('GET', '/'))
      else client.send(FRAME.continuation, 0, 1, encodeFields(['x-a', 'b'.repeat(40)]))
    },
  },
  {
    name: 'a head that goes on with nothing',
    reason: 'continuations',
    step: (client, n) => {
      if (n === 0) client.send(FRAME.headers, FLAG.endStream, 1, encodeRequest('GET', '/'))
      else client.send(FRAME.continuation, 0, 1)
    },
  },
  {
    name: 'PING frames (CVE-2019-9512)',
    reason: 'control_frames',
    step: (client) => client.send(FRAME.ping, 0, 0, Buffer.alloc(8)),
  },
  {
    name: 'SETTINGS frames (CVE-2019-9515)',
    reason: 'control_frames',
    step: (client) => client.send(FRAME.settings, 0, 0),
  },
  {
    name: 'empty DATA frames (CVE-2019-9518)',
    reason: 'invalid_frames',
    step: (client, n) => {
      if (n === 0) client.send(FRAME.headers, FLAG.endHeaders, 1, encodeRequest('POST', '/'))
      else client.send(FRAME.data, 0, 1)
    },
  },
  {
    name: 'malformed heads',
    reason: 'invalid_frames',
    step: (client, n) =>
      client.send(
        FRAME.headers,
        FLAG.endHeaders | FLAG.endStream,
        2 * n + 1,
        encodeFields([':method', 'GET']),
      ),
  },
]

describe('a flood over HTTP/2', () => {
  const bench = useProxy({ startGateway: startGatewayWith({ front: 'raw', upstream: 'raw' }) })

  async function start() {
    const upstream = await bench.upstream(startHttpUpstream())
    return { upstream, gateway: await bench.gateway({ upstream: upstream.url, tls: TEST_TLS }) }
  }

  it.each(FLOODS)('of $name is cut off', async ({ step, reason }) => {
    const { gateway, upstream } = await start()
    const bystander = await bench.session(connectHttp2(gateway.port))
    const client = await bench.frames(gateway)
    for (let n = 0; !client.isCutOff && client.sent < 4 * FRAMES_MAX; n++) {
      // What is written after the cut is not counted against it: the answer must arrive first.
      if (client.sent >= FRAMES_MAX || client.sentBytes >= BYTES_MAX) {
        await eventually(() => client.isCutOff, 'cut off')
        break
      }
      step(client, n)
      if (n % 10 === 9) await client.breathe()
    }
    await eventually(() => client.isClosed, 'the connection closed')
    await eventually(() => gateway.cutOffs.length === 1, 'the cut counted')
    expect(gateway.cutOffs).toEqual([reason])
    expect((await ask(bystander, '/')).status).toBe(200)
    expect(upstream.begun).toBeLessThan(FRAMES_MAX / 2)
  })

  it.each(FLOODS)('of $name in one piece leaves the gateway alive', async ({ step }) => {
    const { gateway } = await start()
    const client = await bench.frames(gateway)
    client.socket.cork()
    for (let n = 0; n < 4 * FRAMES_MAX; n++) step(client, n)
    client.socket.uncork()
    await eventually(() => client.isClosed, 'the connection closed')
    expect(gateway.cutOffs).toHaveLength(1)
    const after = await bench.session(connectHttp2(gateway.port))
    expect((await ask(after, '/')).status).toBe(200)
  })

  it('of streams is bounded by the limit of concurrent ones', async () => {
    const upstream = await bench.upstream(startStreamingUpstream(() => {}))
    const gateway = await bench.gateway({ upstream: upstream.url, tls: TEST_TLS })
    const client = await bench.frames(gateway)
    for (let n = 0; n < 150; n++) openStream(client, n)
    await eventually(() => client.frames.filter(({ type }) => type === FRAME.reset).length >= 50, 'refusals')
    await eventually(() => upstream.begun === 100, 'a hundred requests upstream')
    const refused = client.frames.find(({ type }) => type === FRAME.reset)
    expect(refused?.payload.readUInt32BE()).toBe(7)
    expect(upstream.begun).toBe(100)
  })

  it('is not what a busy client looks like: cancelling a page full, or a PING for each answer', async () => {
    const { gateway } = await start()
    const client = await bench.frames(gateway)
    for (let n = 0; n < 120; n++) {
      openStream(client, n)
      client.send(FRAME.reset, 0, 2 * n + 1, CANCEL)
      if (n % 10 === 9) await client.breathe()
    }
    for (let n = 200; n < 1200; n++) {
      openStream(client, n)
      client.send(FRAME.ping, 0, 0, Buffer.alloc(8))
      if (n % 20 === 19) {
        const stream = 2 * n + 1
        await eventually(() => client.find(FRAME.headers, stream) !== undefined, 'an answer')
      }
    }
    expect(client.isCutOff).toBe(false)
    expect(gateway.cutOffs).toEqual([])
  })

  it('of one stream with a window of nothing takes no memory for its answer', async () => {
    let sent = 0
    const upstream = await bench.upstream(
      startStreamingUpstream((_request, answer) => {
        const fill = () => {
          while (sent < 512 * 1024 * 1024) {
            sent += 65_536
            if (!answer.write(Buffer.alloc(65_536))) return void answer.once('drain', fill)
          }
        }
        fill()
      }),
    )
    const gateway = await bench.gateway({
      upstream: upstream.url,
      tls: TEST_TLS,
      routes: [{ name: 'main', upstream: 'main', timeouts: { idle: '1s' } }],
    })
    // SETTINGS_INITIAL_WINDOW_SIZE = 0
    const client = await bench.frames(gateway, Buffer.from([0, 4, 0, 0, 0, 0]))
    openStream(client, 0)
    await eventually(() => client.find(FRAME.reset, 1) !== undefined, 'the stream given up')
    expect(sent).toBeLessThan(32 * 1024 * 1024)
    await eventually(() => upstream.openSockets.size === 0, 'the upstream connection closed')
  })
})
