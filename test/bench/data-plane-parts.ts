import { compileRanges } from '../../src/data-plane/address-ranges.ts'
import { resolveClientAddress } from '../../src/data-plane/client-address.ts'
import { extractCredential } from '../../src/data-plane/credentials.ts'
import { buildForwardTarget } from '../../src/data-plane/forward-target.ts'
import { buildSteadyAnswerFields, buildSteadyFields } from '../../src/data-plane/headers.ts'
import { buildRateLimitFields } from '../../src/data-plane/rate-limit-fields.ts'
import { checkRequestHead } from '../../src/data-plane/request-check.ts'
import { matchRoute } from '../../src/data-plane/route-table.ts'
import { compileTable, LIMITS } from '../support/routes.ts'

/* What one request costs in the pure parts of the data plane, by part; prints microseconds. */

const ROUNDS = 200_000

const routes = Array.from({ length: 50 }, (_, i) => ({
  name: `r${i}`,
  match: { path: `/api/v1/resource-${i}` },
  keyspace: 'ks_a',
}))
const table = compileTable(...routes)
const nobody = compileRanges([])
const rawHeaders = [
  ...[
    'Host',
    'api.example.com',
    'User-Agent',
    'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36',
    'Accept',
    '*/*',
  ],
  ...[
    'Accept-Encoding',
    'gzip, deflate, br',
    'Accept-Language',
    'en-GB,en;q=0.9',
    'Connection',
    'keep-alive',
  ],
  ...[
    'Authorization',
    'Bearer ord_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG',
    'Content-Type',
    'application/json',
  ],
  ...['Content-Length', '2', 'Cache-Control', 'no-cache'],
]
const answerHeaders = [
  'Date',
  'now',
  'Content-Type',
  'application/json',
  'Content-Length',
  '2',
  'Connection',
  'keep-alive',
]
const received = {
  method: 'POST',
  target: '/api/v1/resource-31/items/17?expand=lines',
  httpVersion: '1.1',
  rawHeaders,
} as const

const head = checkRequestHead(received, LIMITS)
const match = head.kind === 'head' ? matchRoute(table, head, rawHeaders) : undefined
if (head.kind !== 'head' || match?.kind !== 'route') throw new Error('the sample request was refused')
const { route } = match
const odd = { ...head, path: '/api/v1/resource-31/items/a%2Fb' }
const client = resolveClientAddress(nobody, '192.0.2.1', rawHeaders)
const limit = { capacity: 100, rate: 10, intervalMs: 1000 }
const decision = {
  kind: 'allowed',
  kid: 'k_a',
  ksid: 'ks_a',
  limit,
  remaining: 42,
  lastRefilledMs: 0,
  nowMs: 10,
} as const
const ids = { requestId: 'b0c1d2e3-0000-4000-8000-000000000000', kid: 'k_a', ksid: 'ks_a' }

measure('checkRequestHead', () => checkRequestHead(received, LIMITS))
measure('matchRoute', () => matchRoute(table, head, rawHeaders))
measure('matchRoute, %2F in the path', () => matchRoute(table, odd, rawHeaders))
measure('resolveClientAddress', () => resolveClientAddress(nobody, '192.0.2.1', rawHeaders))
measure('extractCredential', () => extractCredential(route, rawHeaders, head.query))
measure('buildForwardTarget', () => buildForwardTarget(route, head))
measure('buildSteadyFields', () =>
  buildSteadyFields({ route, head, rawHeaders, client, protocol: 'http', upstreamHost: 'a:1', ...ids }),
)
measure('buildRateLimitFields', () => buildRateLimitFields(route, decision))
measure('buildSteadyAnswerFields', () =>
  buildSteadyAnswerFields({ route, status: 200, rawHeaders: answerHeaders, hasUpgraded: false }),
)

function measure(name: string, run: () => unknown): void {
  let best = Number.POSITIVE_INFINITY
  for (let attempt = 0; attempt < 5; attempt++) {
    const start = performance.now()
    for (let i = 0; i < ROUNDS; i++) run()
    best = Math.min(best, performance.now() - start)
  }
  process.stdout.write(`${name.padEnd(30)} ${((best * 1000) / ROUNDS).toFixed(2)} µs\n`)
}
