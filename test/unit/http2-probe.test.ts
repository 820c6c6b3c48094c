import { afterEach, expect, it } from 'vitest'
import { sendHttp2Probe } from '../../src/data-plane/upstream/http2-probe.ts'
import { parseOrigin } from '../../src/data-plane/upstream/origin.ts'
import { startGrpcUpstream } from '../support/grpc.ts'
import { findClosedPort, startHttpUpstream } from '../support/upstreams.ts'

/** Active checks of targets that speak HTTP/2. */

const open: { close(): Promise<void> }[] = []
afterEach(async () => {
  for (const upstream of open.splice(0)) await upstream.close()
})

function probe(url: string, path: string, timeoutMs = 2000): Promise<string | undefined> {
  const origin = parseOrigin(url, { isHttp2: true })
  const rule = { path, host: undefined, timeoutMs, isGood: (status: number) => status === 200 }
  return new Promise((resolve) => void sendHttp2Probe(origin, rule, resolve))
}

it('a target that answers well is well, and the others are not', async () => {
  const upstream = await startGrpcUpstream()
  const other = await startHttpUpstream()
  open.push(upstream, other)
  expect(await probe(upstream.url, '/echo.Echo/Fail')).toBeUndefined()
  expect(upstream.calls[0]).toMatchObject({ ':method': 'GET', 'user-agent': 'dripgate-health-check' })
  expect(await probe(upstream.url, '/echo.Echo/Hang', 100)).toBe('no answer within 100 ms')
  expect(await probe(`http://127.0.0.1:${await findClosedPort()}`, '/')).toMatch(/ECONNREFUSED/)
  // Speaks HTTP/1.1 alone.
  expect(await probe(other.url, '/')).toBeTypeOf('string')
})
