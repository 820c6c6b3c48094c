import { removeParameter } from './credentials.ts'
import type { RequestHead } from './request-check.ts'
import type { Route } from './route.ts'

/**
 * The target to send upstream: what the client sent, byte for byte, but for the prefix that the
 * route replaces and the parameter that it reads the token from. The route must be the one that
 * `matchRoute` found for this head: it has made sure that the prefix is there.
 */
export function buildForwardTarget(route: Route, head: RequestHead): string {
  const path = replacePrefix(head.path, route)
  if (!head.hasQuery) return path
  const { strippedQuery } = route.token
  const query = strippedQuery === '' ? head.query : removeParameter(head.query, strippedQuery)
  return query === undefined ? path : `${path}?${query}`
}

function replacePrefix(path: string, { stripPrefix, addPrefix }: Route): string {
  if (stripPrefix === '' && addPrefix === '') return path
  const replaced = addPrefix + path.slice(stripPrefix.length)
  return replaced === '' ? '/' : replaced
}
