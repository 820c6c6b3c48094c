import type { IncomingMessage } from 'node:http'
import type { Management } from '../app/management.ts'
import { findServiceKeyByToken } from '../app/service-keys.ts'
import { hashTokenBytes } from '../app/tokens.ts'
import { RpcError } from '../domain/errors.ts'
import type { Caller } from './procedure.ts'

/** A body that took longer than this to arrive must not outlive its caller's revocation. */
export const CALLER_AGE_MS_MAX = 25

const BEARER = /^bearer +/i

/**
 * Finds out who calls. The token comes as `Authorization: Bearer TOKEN` or bare, unless `readFrom`
 * says otherwise. Fails with `unauthorized`, in the same words whatever was wrong.
 */
export async function authenticate(
  deps: Pick<Management, 'keyStore' | 'findRootToken'>,
  request: IncomingMessage,
  readFrom = readToken,
): Promise<Caller> {
  const token = readFrom(request)
  if (token === undefined || isForeignPage(request)) throw new RpcError('unauthorized')
  const tokenHash = hashTokenBytes(token)
  const serviceKey = await findServiceKeyByToken(deps, tokenHash)
  if (serviceKey === undefined) throw new RpcError('unauthorized')
  return { serviceKey, tokenHash }
}

/** Two `Authorization` fields are as good as none: Node shows the first, others may act on the second. */
function readToken(request: IncomingMessage): Buffer | undefined {
  const value = request.headers.authorization
  if (value === undefined || countFields(request, 'authorization') !== 1) return undefined
  const token = value.replace(BEARER, '')
  // Node gives one character per byte; a token hashes by its bytes.
  return token === '' ? undefined : Buffer.from(token, 'latin1')
}

/** For the script API: `X-API-KEY: TOKEN` wins over `Authorization`; two of them are as good as none. */
export function readApiKey(request: IncomingMessage): Buffer | undefined {
  const value = request.headers['x-api-key']
  if (value === undefined) return readToken(request)
  const isOne = typeof value === 'string' && value !== '' && countFields(request, 'x-api-key') === 1
  return isOne ? Buffer.from(value, 'latin1') : undefined
}

function countFields(request: IncomingMessage, name: string): number {
  const { rawHeaders } = request
  let count = 0
  for (let index = 0; index < rawHeaders.length; index += 2) {
    if (rawHeaders[index]?.toLowerCase() === name) count++
  }
  return count
}

/**
 * Whether a browser sent this for a page of another origin. Such a page has no business here even
 * if it got hold of a token. Programs send neither field; a page of this listener has our own origin.
 */
function isForeignPage({ headers }: IncomingMessage): boolean {
  if (headers['sec-fetch-site'] === 'cross-site') return true
  const { origin, host } = headers
  return origin !== undefined && origin !== `http://${host}` && origin !== `https://${host}`
}
