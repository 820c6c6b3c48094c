import { addPreflightFields } from './cors.ts'
import type { Exchange } from './exchange.ts'
import { NO_STEADY } from './message-fields.ts'
import type { Match } from './path-tree.ts'
import { findComma, findField, joinFields, type RawHeaders, trimBlanks } from './raw-headers.ts'
import type { RequestHead } from './request-check.ts'
import { ANY_VALUE } from './route.ts'
import { matchRoute, type RouteTable } from './route-table.ts'

/**
 * The route of the request that a preflight asks about, where that route has CORS. Fields that the
 * preflight only names count as they will be.
 */
export function matchPreflight(
  table: RouteTable,
  head: RequestHead,
  rawHeaders: RawHeaders,
): Match | undefined {
  const method = findAskedMethod(rawHeaders)
  if (method === undefined) return undefined
  const { path, hostname } = head
  const match = matchRoute(table, { method, path, hostname }, withPromisedFields(rawHeaders))
  return match.kind === 'route' && match.route.cors !== undefined ? match : undefined
}

/**
 * Answers a preflight on a route with CORS, and says whether it did. A browser sends no token with
 * it, so nobody is identified, and nothing is taken from any bucket.
 */
export function answerPreflight(exchange: Exchange): boolean {
  const { client, route, requestId } = exchange
  if (route?.cors === undefined || findAskedMethod(client.rawHeaders) === undefined) return false
  const fields = ['X-Request-Id', requestId, 'Via', '1.1 dripgate']
  addPreflightFields(fields, route.cors, client.rawHeaders)
  exchange.decision = 'open'
  exchange.isAnswerBegun = true
  exchange.status = 204
  client.sendWhole({ status: 204, steady: NO_STEADY, fresh: fields, body: '', mustClose: false })
  return true
}

/** The method of the request to come; `undefined` where this OPTIONS is no preflight. */
function findAskedMethod(rawHeaders: RawHeaders): string | undefined {
  if (findField(rawHeaders, 'origin') === undefined) return undefined
  return findField(rawHeaders, 'access-control-request-method')
}

function withPromisedFields(rawHeaders: RawHeaders): RawHeaders {
  const names = joinFields(rawHeaders, 'access-control-request-headers')
  const fields = [...rawHeaders]
  for (let start = 0; start < names.length; ) {
    const end = findComma(names, start)
    fields.push(trimBlanks(names, start, end), ANY_VALUE)
    start = end + 1
  }
  return fields
}
