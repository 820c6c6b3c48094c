import { execFile, spawnSync } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { useProxy } from '../support/proxy-bench.ts'
import { eventually, startGatewayWith } from '../support/proxy-gateway.ts'
import { TEST_TLS } from '../support/test-tls.ts'
import { startHttpUpstream } from '../support/upstreams.ts'

/** Another client than Node's: h2load of nghttp2 (Debian: nghttp2-client). Skipped where it is missing. */

const HAS_H2LOAD = spawnSync('h2load', ['--version']).status === 0
const bench = useProxy({ startGateway: startGatewayWith({ front: 'raw', upstream: 'raw' }) })

it.skipIf(!HAS_H2LOAD)('h2load gets an answer to every request', async () => {
  const upstream = await bench.upstream(startHttpUpstream())
  const gateway = await bench.gateway({ upstream: upstream.url, tls: TEST_TLS })
  const url = `https://127.0.0.1:${gateway.port}/`
  const { stdout } = await promisify(execFile)('h2load', ['-n', '2000', '-c', '4', '-m', '50', url])
  expect(stdout).toContain('2000 succeeded, 0 failed, 0 errored, 0 timeout')
  expect(stdout).toContain('Application protocol: h2')
  await eventually(() => gateway.records.length === 2000, 'every request recorded')
  expect(upstream.seen).toHaveLength(2000)
})
