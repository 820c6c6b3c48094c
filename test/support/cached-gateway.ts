import type { IncomingMessage, ServerResponse } from 'node:http'
import type { useCleanup } from './cleanup.ts'
import { ask, type HttpAnswer, type HttpAsk } from './http-client.ts'
import type { GatewaySettings, StartGateway, TestGateway } from './proxy-gateway.ts'
import { type HttpUpstream, startHttpUpstream } from './upstreams.ts'

/** A gateway with a caching route in front of an upstream that the test scripts. */
export interface CachedGateway {
  readonly gateway: TestGateway
  readonly upstream: HttpUpstream
  /** Moves the clock of the cache. */
  pass(seconds: number): void
  ask(target: string, options?: HttpAsk): Promise<HttpAnswer>
  /** How the cache names what it did, without its own name. */
  statusOf(answer: HttpAnswer): string
}

/** What the upstream answers; the number counts its requests from 1. */
export type Script = (request: IncomingMessage, answer: ServerResponse, number: number, body: Buffer) => void

export async function startCached(
  cleanup: ReturnType<typeof useCleanup>,
  startGateway: StartGateway,
  script: Script,
  route: object = {},
  settings: GatewaySettings = {},
): Promise<CachedGateway> {
  let nowMs = 1_000_000
  let number = 0
  const upstream = await cleanup.open(
    startHttpUpstream((request, answer, body) => script(request, answer, ++number, body)),
  )
  const gateway = await cleanup.open(
    startGateway({
      upstream: upstream.url,
      routes: [{ name: 'main', upstream: 'main', cache: {}, ...route }],
      cacheClock: () => nowMs,
      ...settings,
    }),
  )
  return {
    gateway,
    upstream,
    pass: (seconds) => {
      nowMs += seconds * 1000
    },
    ask: (target, options) => ask(gateway.port, target, options),
    statusOf: (answer) => String(answer.headers['cache-status'] ?? '').replace(/^.*dripgate; /, ''),
  }
}

/** Answers with these fields and the number of the request as the body. */
export function numbered(fields: Readonly<Record<string, string | string[]>>, status = 200): Script {
  return (_request, answer, number) => {
    answer.writeHead(status, fields)
    answer.end(String(number))
  }
}
