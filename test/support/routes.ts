import { type Config, configSchema } from '../../src/config/schema.ts'
import type { RawHeaders } from '../../src/data-plane/raw-headers.ts'
import { checkRequestHead, type ReceivedHead, type RequestHead } from '../../src/data-plane/request-check.ts'
import type { Route } from '../../src/data-plane/route.ts'
import { compileRoutes, matchRoute, type RouteTable } from '../../src/data-plane/route-table.ts'

export type RouteSettings = Record<string, unknown>

/** A validated configuration with these routes, all of them to one upstream. */
export function parseRoutes(routes: readonly RouteSettings[], upstream: RouteSettings = {}): Config {
  return configSchema.parse({
    upstreams: { main: { targets: ['http://127.0.0.1:9000'], ...upstream } },
    routes: routes.map((route) => ({ upstream: 'main', ...route })),
  })
}

export function compileTable(...routes: readonly RouteSettings[]): RouteTable {
  return compileRoutes(parseRoutes(routes))
}

export function compileOne(settings: RouteSettings = {}): Route {
  const [route] = compileTable({ name: 'one', ...settings }).routes
  if (route === undefined) throw new Error('no route was compiled')
  return route
}

/** The name of the route, the kind of refusal, or the methods of a 405. */
export function route(
  table: RouteTable,
  path: string,
  request: { method?: string; hostname?: string; rawHeaders?: RawHeaders } = {},
): string {
  const { method = 'GET', hostname = 'example.com', rawHeaders = [] } = request
  const match = matchRoute(table, { method, path, hostname }, rawHeaders)
  if (match.kind === 'route') return match.route.name
  return match.kind === 'method_not_allowed' ? `405 ${match.allow}` : match.kind
}

export const LIMITS = { headersMax: 100, targetBytesMax: 8192 }

/** A head that the check accepts; throws where it does not. */
export function acceptHead(received: Partial<ReceivedHead> = {}): RequestHead {
  const head = checkRequestHead(
    { method: 'GET', target: '/', httpVersion: '1.1', rawHeaders: ['Host', 'example.com'], ...received },
    LIMITS,
  )
  if (head.kind === 'fault') throw new Error(`the head was refused: ${head.code}`)
  return head
}

/** All values of a field in a raw list. */
export function valuesOf(rawHeaders: RawHeaders, name: string): string[] {
  return rawHeaders.filter((_, i) => i % 2 === 1 && rawHeaders[i - 1]?.toLowerCase() === name.toLowerCase())
}

export function namesOf(rawHeaders: RawHeaders): string[] {
  return rawHeaders.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase())
}
