import type { Config } from '../config/schema.ts'
import { compileRoute } from './compile-route.ts'
import {
  createPathNode,
  descendPath,
  descendReading,
  insertMatch,
  type Match,
  type PathNode,
} from './path-tree.ts'
import { decodePercent } from './percent.ts'
import type { RawHeaders } from './raw-headers.ts'
import {
  hasDotSegment,
  isPlain,
  NESTING_MAX,
  type PathParts,
  type ReadLimits,
  splitPath,
  toNextReading,
} from './request-path.ts'
import { hasFields, type Route, takesMethod } from './route.ts'

/**
 * Routes by host, then by path. A route for exactly the request's host goes first, then the one
 * with the longest wildcard, then those for any host. Below one host the longest path goes first,
 * then the route with more conditions, then the one that stands first in the file. A route that
 * does not take a request leaves it to the next in this order.
 */
export interface RouteTable {
  /** In the order of the configuration, which is that of `Route.index`. */
  readonly routes: readonly Route[]
  readonly exactHosts: ReadonlyMap<string, PathNode>
  /** By what follows the `*`: `.example.com`. */
  readonly wildcardHosts: ReadonlyMap<string, PathNode>
  readonly anyHost: PathNode
  readonly limits: ReadLimits
}

export interface RouteRequest {
  readonly method: string
  /** As received, without the query. */
  readonly path: string
  /** In lower case, without port and trailing dot; `''` where there is none. */
  readonly hostname: string
}

export type RouteMatch =
  | Match
  | { readonly kind: 'not_found' }
  /** `allow` is the value of the `Allow` field. */
  | { readonly kind: 'method_not_allowed'; readonly allow: string }
  /** The path can be read in more than one way, and it matters. */
  | { readonly kind: 'ambiguous' }

const NOT_FOUND: RouteMatch = { kind: 'not_found' }
const AMBIGUOUS: RouteMatch = { kind: 'ambiguous' }
const SLASH = 0x2f
/** What many an upstream takes for an authority (RFC 3986 section 4.2). */
const HOST_LIKE = /^\/(\/|\\|%2f|%5c)/i

/** The configuration has been validated: paths have one reading, hosts are in lower case. */
export function compileRoutes(config: Config): RouteTable {
  const exactHosts = new Map<string, PathNode>()
  const wildcardHosts = new Map<string, PathNode>()
  const anyHost = createPathNode()
  const routes: Route[] = []
  let segmentsMax = 0
  let segmentLengthMax = 0

  for (const [index, entry] of config.routes.entries()) {
    const route = compileRoute(entry, index, config.upstreams[entry.upstream], config.routes)
    routes.push(route)
    const segments = entry.match.path.split('/').filter(Boolean).map(decodePercent)
    segmentsMax = Math.max(segmentsMax, segments.length)
    for (const segment of segments) segmentLengthMax = Math.max(segmentLengthMax, segment.length)
    const match: Match = { kind: 'route', route }
    for (const root of listRoots(entry.match.hosts)) insertMatch(root, segments, match)
  }
  return { routes, exactHosts, wildcardHosts, anyHost, limits: { segmentsMax, segmentLengthMax } }

  function listRoots(hosts: readonly string[] | undefined): PathNode[] {
    if (hosts === undefined) return [anyHost]
    return hosts.map((host) =>
      host.startsWith('*.') ? getRoot(wildcardHosts, host.slice(1)) : getRoot(exactHosts, host),
    )
  }
}

/**
 * Finds the route of a request, in time linear in the length of the path. What is found holds for
 * every plausible reading of the path: where two readings lead to two routes, or a segment is a
 * dot segment, the answer is `ambiguous`. So it is where a prefix is to be cut off but the path
 * spells it in another way, or what is left would look like the name of a host (`//other/path`).
 */
export function matchRoute(table: RouteTable, request: RouteRequest, rawHeaders: RawHeaders): RouteMatch {
  const { path } = request
  if (path.charCodeAt(0) !== SLASH) return NOT_FOUND
  const hasOneReading = isPlain(path)
  const match = hasOneReading
    ? (select(table, request, rawHeaders) ?? explainMiss(table, request, rawHeaders))
    : matchReadings(table, request, rawHeaders)
  if (match.kind !== 'route' || match.route.stripPrefix === '') return match
  const { stripPrefix, addPrefix } = match.route
  if (!hasLiteralPrefix(path, stripPrefix)) return AMBIGUOUS
  const isHostLike = !hasOneReading && addPrefix === '' && HOST_LIKE.test(path.slice(stripPrefix.length))
  return isHostLike ? AMBIGUOUS : match
}

function matchReadings(table: RouteTable, request: RouteRequest, rawHeaders: RawHeaders): RouteMatch {
  const { path } = request
  if (hasDotSegment(path)) return AMBIGUOUS
  const parts = splitPath(path, table.limits)
  const { canonical } = parts
  const chosen = select(table, request, rawHeaders, parts, canonical)
  if (chosen === undefined) return explainMiss(table, request, rawHeaders, parts)
  for (let reading = toNextReading(canonical, canonical); reading >= 0; ) {
    const other = select(table, request, rawHeaders, parts, reading)
    if (other !== undefined && other !== chosen) return AMBIGUOUS
    reading = toNextReading(reading, canonical)
  }
  return leadsElsewhereDecodedAgain(table, request, rawHeaders, chosen) ? AMBIGUOUS : chosen
}

/** Whether an upstream that undoes percent-encoding more than once would see another route's path. */
function leadsElsewhereDecodedAgain(
  table: RouteTable,
  request: RouteRequest,
  rawHeaders: RawHeaders,
  chosen: Match,
): boolean {
  let text = request.path
  for (let nesting = 0; nesting < NESTING_MAX && text.includes('%25'); nesting++) {
    text = decodePercent(text)
    const parts = splitPath(text, table.limits)
    const other = select(table, request, rawHeaders, parts, parts.canonical)
    if (other !== undefined && other !== chosen) return true
  }
  return false
}

/** Without parts the path is plain, and read as it is. */
function select(
  table: RouteTable,
  request: RouteRequest,
  rawHeaders: RawHeaders,
  parts?: PathParts,
  reading = 0,
): Match | undefined {
  const { hostname } = request
  const exact = table.exactHosts.get(hostname)
  const match = exact === undefined ? undefined : selectBelow(exact, request, rawHeaders, parts, reading)
  if (match !== undefined) return match
  if (table.wildcardHosts.size > 0) {
    for (let dot = hostname.indexOf('.', 1); dot > 0; dot = hostname.indexOf('.', dot + 1)) {
      const root = table.wildcardHosts.get(hostname.slice(dot))
      const found = root === undefined ? undefined : selectBelow(root, request, rawHeaders, parts, reading)
      if (found !== undefined) return found
    }
  }
  return selectBelow(table.anyHost, request, rawHeaders, parts, reading)
}

function selectBelow(
  root: PathNode,
  request: RouteRequest,
  rawHeaders: RawHeaders,
  parts?: PathParts,
  reading = 0,
): Match | undefined {
  let node: PathNode | undefined = descend(root, request.path, parts, reading)
  for (; node !== undefined; node = node.parent) {
    for (const match of node.matches) {
      if (takesMethod(match.route, request.method) && hasFields(match.route, rawHeaders)) return match
    }
  }
  return undefined
}

/** 405 with the methods of all routes that would take the request but for its method, else 404. */
function explainMiss(
  table: RouteTable,
  request: RouteRequest,
  rawHeaders: RawHeaders,
  parts?: PathParts,
): RouteMatch {
  const methods = new Set<string>()
  for (const root of listRootsOf(table, request.hostname)) {
    let node: PathNode | undefined = descend(root, request.path, parts, parts?.canonical)
    for (; node !== undefined; node = node.parent) {
      for (const { route } of node.matches) {
        if (hasFields(route, rawHeaders)) for (const method of route.methods ?? []) methods.add(method)
      }
    }
  }
  return methods.size === 0 ? NOT_FOUND : { kind: 'method_not_allowed', allow: [...methods].join(', ') }
}

function listRootsOf(table: RouteTable, hostname: string): PathNode[] {
  const roots = [table.exactHosts.get(hostname)]
  for (let dot = hostname.indexOf('.', 1); dot > 0; dot = hostname.indexOf('.', dot + 1)) {
    roots.push(table.wildcardHosts.get(hostname.slice(dot)))
  }
  return [...roots, table.anyHost].filter((root) => root !== undefined)
}

function descend(root: PathNode, path: string, parts: PathParts | undefined, reading = 0): PathNode {
  return parts === undefined ? descendPath(root, path) : descendReading(root, parts, reading)
}

/** Whether the path starts with the prefix as it stands, on a segment boundary. */
function hasLiteralPrefix(path: string, prefix: string): boolean {
  if (!path.startsWith(prefix)) return false
  return path.length === prefix.length || path.charCodeAt(prefix.length) === SLASH
}

function getRoot(hosts: Map<string, PathNode>, host: string): PathNode {
  const root = hosts.get(host) ?? createPathNode()
  hosts.set(host, root)
  return root
}
