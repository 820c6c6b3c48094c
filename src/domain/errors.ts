/**
 * The one table of what can go wrong: code → status, owner and the text that clients see.
 * Denials of the limiter are decisions (decision.ts); they appear here because they end up as
 * answers too.
 */

export type Owner = 'client' | 'upstream' | 'gateway' | 'store'

interface ErrorEntry {
  readonly status: number
  readonly owner: Owner
  /** The public text; never a cause, a host or a token. */
  readonly message: string
}

/** Local answers of the gateway port (contract section 4). */
export const GATEWAY_ERRORS = {
  bad_request: { status: 400, owner: 'client', message: 'The request is malformed or ambiguous.' },
  ambiguous_path: {
    status: 400,
    owner: 'client',
    message:
      'The path can be read in more than one way. Send it without dot segments, doubled slashes or encoded separators.',
  },
  forbidden: {
    status: 403,
    owner: 'client',
    message: 'Requests from your address are not allowed here.',
  },
  not_found: { status: 404, owner: 'client', message: 'No route matches this request.' },
  method_not_allowed: {
    status: 405,
    owner: 'client',
    message: 'This method is not allowed here; the Allow field lists those that are.',
  },
  missing_token: {
    status: 401,
    owner: 'client',
    message: 'An API token is needed. Send it as "Authorization: Bearer TOKEN" or "X-API-KEY: TOKEN".',
  },
  invalid_token: { status: 401, owner: 'client', message: 'The API token is not valid here.' },
  expired_token: { status: 401, owner: 'client', message: 'The API token has expired.' },
  rate_limited: { status: 429, owner: 'client', message: 'The rate limit of this key is used up.' },
  request_timeout: { status: 408, owner: 'client', message: 'The request took too long to arrive.' },
  body_too_large: {
    status: 413,
    owner: 'client',
    message: 'The request body is larger than this route accepts.',
  },
  uri_too_long: { status: 414, owner: 'client', message: 'The request target is too long.' },
  headers_too_large: {
    status: 431,
    owner: 'client',
    message: 'The request header fields are too large or too many.',
  },
  upstream_unreachable: {
    status: 502,
    owner: 'upstream',
    message: 'The upstream could not be reached or gave an invalid answer.',
  },
  upstream_timeout: { status: 504, owner: 'upstream', message: 'The upstream took too long to answer.' },
  no_upstream: { status: 503, owner: 'upstream', message: 'No target of the upstream is available.' },
  store_unavailable: {
    status: 503,
    owner: 'store',
    message: 'The rate limit cannot be checked at the moment.',
  },
  not_cached: {
    status: 504,
    owner: 'client',
    message: 'There is no stored answer that this request would accept, and it asks for no other.',
  },
  internal_error: { status: 500, owner: 'gateway', message: 'The gateway failed to handle this request.' },
} as const satisfies Record<string, ErrorEntry>

export type GatewayErrorCode = keyof typeof GATEWAY_ERRORS

/** Errors of the admin listener; those of the RPC are binding (contract section 5, point 3). */
export const RPC_ERRORS = {
  invalid_json: { status: 400, owner: 'client', message: 'invalid json' },
  invalid_payload: { status: 400, owner: 'client', message: 'invalid payload' },
  unauthorized: { status: 401, owner: 'client', message: 'unauthorized' },
  values_too_large: { status: 400, owner: 'client', message: 'the values are too large together' },
  cannot_delete_itself: { status: 403, owner: 'client', message: 'cannot delete itself' },
  role_missing: { status: 403, owner: 'client', message: 'the service key needs the role SCRIPT' },
  key_forbidden: { status: 403, owner: 'client', message: 'key not allowed' },
  not_found: { status: 404, owner: 'client', message: 'not found' },
  key_not_found: { status: 404, owner: 'client', message: 'key not found' },
  keyspace_not_found: { status: 404, owner: 'client', message: 'keyspace not found' },
  service_key_not_found: { status: 404, owner: 'client', message: 'service key not found' },
  method_not_allowed: { status: 405, owner: 'client', message: 'method not allowed' },
  keyspace_exists: { status: 409, owner: 'client', message: 'keyspace already exists' },
  service_key_exists: { status: 409, owner: 'client', message: 'service key already exists' },
  payload_too_large: { status: 413, owner: 'client', message: 'payload too large' },
  key_expired: { status: 419, owner: 'client', message: 'key expired' },
  unsupported_content_type: {
    status: 422,
    owner: 'client',
    message: 'unprocessable entity: send application/json',
  },
  invalid_configuration: { status: 422, owner: 'client', message: 'invalid configuration' },
  rate_limit_exceeded: { status: 429, owner: 'client', message: 'rate limit exceeded' },
  invalid_expiration: { status: 460, owner: 'client', message: 'invalid expiration' },
  internal: { status: 500, owner: 'gateway', message: 'internal server error' },
  store_unavailable: { status: 503, owner: 'store', message: 'store unavailable' },
  store_full: { status: 507, owner: 'store', message: 'insufficient storage' },
} as const satisfies Record<string, ErrorEntry>

export type RpcErrorCode = keyof typeof RPC_ERRORS

/**
 * Thrown by application code and stores for anything that ends an RPC other than by success.
 * `message` is internal text for the log; clients get the table's text.
 */
export class RpcError extends Error {
  readonly code: RpcErrorCode
  /** Leaf names of the parameters at fault. */
  readonly invalidFields: readonly string[]
  /** Of the items at fault in a list, from 0. */
  readonly invalidPositions: readonly number[]
  /** One sentence per fault, for people. */
  readonly details: readonly string[]
  /** Header fields that belong to the answer, such as `Retry-After`. */
  readonly headers: Readonly<Record<string, string>>

  constructor(
    code: RpcErrorCode,
    options: {
      readonly internal?: string
      readonly cause?: unknown
      readonly invalidFields?: readonly string[]
      readonly invalidPositions?: readonly number[]
      readonly details?: readonly string[]
      readonly headers?: Readonly<Record<string, string>>
    } = {},
  ) {
    super(options.internal ?? RPC_ERRORS[code].message, { cause: options.cause })
    this.name = 'RpcError'
    this.code = code
    this.invalidFields = options.invalidFields ?? []
    this.invalidPositions = options.invalidPositions ?? []
    this.details = options.details ?? []
    this.headers = options.headers ?? {}
  }
}

/** What an unknown thrown value says; internal text, not for clients. */
export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
