import { parseListenAddress } from './addresses.ts'
import { type Finding, getMember, toSubject } from './explain.ts'
import { suggestName } from './nearest-name.ts'
import { routeSchema } from './route-schema.ts'
import type { Config } from './schema.ts'
import type { Path } from './source.ts'

/**
 * What no single setting can tell: references, names given twice, routes that shadow others,
 * addresses that collide. Works on the values as written, so that it finds its faults also while
 * other settings are wrong; what is not of the expected kind is left to the schema.
 */
export function checkReferences(raw: unknown): Finding[] {
  return [
    ...checkUpstreamNames(raw),
    ...checkUnique(raw, 'keyspaces', 'ksid'),
    ...checkUnique(raw, 'keyspaces', 'name'),
    ...checkUnique(raw, 'keyspaces', 'keys_prefix'),
    ...checkRouteNames(raw),
    ...checkRoutes(raw),
    ...checkListeners(raw),
    ...checkStore(raw),
  ]
}

function checkUpstreamNames(raw: unknown): Finding[] {
  const upstreams = getMember(raw, 'upstreams')
  const names = typeof upstreams === 'object' && upstreams !== null ? Object.keys(upstreams) : []
  return listMembers(raw, 'routes').flatMap((route, index) => {
    const name = getMember(route, 'upstream')
    if (typeof name !== 'string' || names.includes(name)) return []
    // The name itself is not shown: it may come from the environment.
    const known = names.length === 0 ? 'none is defined' : `there are ${listNames(names)}`
    const tail = suggestName(name, names) || ` (${known})`
    return [toFinding(['routes', index, 'upstream'], `names an upstream that does not exist${tail}`)]
  })
}

function listNames(names: readonly string[]): string {
  const shown = names.slice(0, 8).map((name) => JSON.stringify(name.slice(0, 64)))
  return names.length > shown.length ? `${shown.join(', ')}, …` : shown.join(', ')
}

function checkUnique(raw: unknown, list: string, field: string): Finding[] {
  const firsts = new Map<unknown, number>()
  return listMembers(raw, list).flatMap((item, index) => {
    const value = getMember(item, field)
    const first = firsts.get(value)
    if (value === undefined || first === undefined) {
      firsts.set(value, index)
      return []
    }
    return [toFinding([list, index, field], `must be unique: ${toSubject([list, first, field])} is the same`)]
  })
}

/** Names left out count too: route-N. */
function checkRouteNames(raw: unknown): Finding[] {
  const firsts = new Map<unknown, number>()
  return listMembers(raw, 'routes').flatMap((route, index) => {
    const name = getMember(route, 'name') ?? `route-${index + 1}`
    const first = firsts.get(name)
    if (first === undefined) {
      firsts.set(name, index)
      return []
    }
    return [
      toFinding(['routes', index, 'name'], `must be unique: ${toSubject(['routes', first])} has the same`),
    ]
  })
}

type Route = Omit<Config['routes'][number], 'name'>

function checkRoutes(raw: unknown): Finding[] {
  const owners = new Map<string, number>()
  return listMembers(raw, 'routes').flatMap((value, index) => {
    const route = routeSchema.safeParse(value).data
    if (route === undefined) return []
    return [...checkToken(route, index), ...checkReach(route, index, owners)]
  })
}

function checkToken(route: Route, index: number): Finding[] {
  const { headers, query, cookie } = route.token
  if (route.keyspaces.length === 0 || headers.length > 0 || query !== undefined || cookie !== undefined)
    return []
  return [
    toFinding(['routes', index, 'token'], 'must name a place to read tokens from, as the route needs one'),
  ]
}

/** A route all of whose cases (host and method) were taken by earlier routes never gets a request. */
function checkReach(route: Route, index: number, owners: Map<string, number>): Finding[] {
  const { hosts = ['*'], headers = {} } = route.match
  // A route for GET takes HEAD too, and segments are compared decoded.
  const methods = route.match.methods?.flatMap((name) => (name === 'GET' ? ['GET', 'HEAD'] : [name])) ?? ['*']
  const path = route.match.path.replace(/%[0-9a-f]{2}/gi, (code) =>
    String.fromCharCode(Number(`0x${code.slice(1)}`)),
  )
  const fields = Object.entries(headers).sort(([a], [b]) => (a < b ? -1 : 1))
  const cases = hosts.flatMap((host) => methods.map((method) => JSON.stringify([host, method, path, fields])))
  const owner = owners.get(cases[0] ?? '')
  const isShadowed = cases.every((each) => owners.has(each))
  for (const each of cases) if (!owners.has(each)) owners.set(each, index)
  if (!isShadowed || owner === undefined) return []
  const message = `can never match: ${toSubject(['routes', owner])} comes first and takes the same requests`
  return [toFinding(['routes', index, 'match'], message)]
}

function checkStore(raw: unknown): Finding[] {
  const store = getMember(raw, 'store')
  if (getMember(store, 'redis') === undefined || getMember(store, 'path') === undefined) return []
  return [
    toFinding(['store', 'path'], 'must not stand beside store.redis: keys and buckets are kept in one place'),
  ]
}

function checkListeners(raw: unknown): Finding[] {
  const gateway = readListener(raw, 'gateway', '0.0.0.0:8080')
  const admin = readListener(raw, 'admin', '127.0.0.1:7131')
  if (gateway === undefined || admin === undefined) return []
  if (gateway.port === 0 || gateway.port !== admin.port || !mayCollide(gateway.host, admin.host)) return []
  const isWritten = getMember(getMember(raw, 'admin'), 'listen') !== undefined
  const [own, other] = isWritten ? ['admin', 'gateway'] : ['gateway', 'admin']
  return [
    toFinding(
      [own, 'listen'],
      `must not be the address of ${other}.listen: each listener needs its own port`,
    ),
  ]
}

function readListener(raw: unknown, section: string, preset: string) {
  const text = getMember(getMember(raw, section), 'listen') ?? preset
  return typeof text === 'string' ? parseListenAddress(text) : undefined
}

function mayCollide(a: string, b: string): boolean {
  const anyIpv4 = '0.0.0.0'
  if (a === b || a === '::' || b === '::') return true
  return (a === anyIpv4 && !b.includes(':')) || (b === anyIpv4 && !a.includes(':'))
}

export function toFinding(path: Path, fault: string): Finding {
  return { path, place: 'value', message: `${toSubject(path)} ${fault}` }
}

function listMembers(raw: unknown, name: string): readonly unknown[] {
  const list = getMember(raw, name)
  return Array.isArray(list) ? list : []
}
