/** Which header fields belong to whom. All names are in lower case. */

/** Fields that concern one connection or frame one message (RFC 9110 section 7.6.1). */
export const HOP_BY_HOP: readonly string[] = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-authorization',
  'te',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
]

/** Fields of requests that the gateway writes itself, from what it parsed or knows. */
export const OWNED_IN_REQUESTS: readonly string[] = [
  'host',
  'content-length',
  'expect',
  'via',
  'x-request-id',
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
]

/** Fields of answers that the gateway writes itself. */
export const OWNED_IN_ANSWERS: readonly string[] = ['via', 'x-request-id']

/** What the gateway's own fields replace, older drafts included. */
export const IETF_LIMIT_FIELDS: readonly string[] = [
  'ratelimit',
  'ratelimit-policy',
  'ratelimit-limit',
  'ratelimit-remaining',
  'ratelimit-reset',
]

export const LEGACY_LIMIT_FIELDS: readonly string[] = [
  'x-ratelimit-limit',
  'x-ratelimit-remaining',
  'x-ratelimit-reset',
]

/** Fields that must be known before the body, so that they mean nothing good behind it (RFC 9110 section 6.5.1). */
export const NEVER_IN_TRAILERS: ReadonlySet<string> = new Set([
  ...HOP_BY_HOP,
  ...OWNED_IN_REQUESTS,
  ...OWNED_IN_ANSWERS,
  ...IETF_LIMIT_FIELDS,
  ...LEGACY_LIMIT_FIELDS,
  'authorization',
  'cache-control',
  'content-encoding',
  'content-range',
  'content-type',
  'cookie',
  'set-cookie',
  'trailer',
  'www-authenticate',
  'x-api-key',
])

const OWN_PREFIX = 'x-dripgate-'
const FORWARDED_PREFIX = 'x-forwarded-'

/** Fields that only the gateway may write, on requests and on answers. */
export function isOwnField(lowerName: string): boolean {
  return lowerName.startsWith(OWN_PREFIX)
}

/** Fields that say where a request came from; believed from trusted proxies only. */
export function isOriginField(lowerName: string): boolean {
  return lowerName.startsWith(FORWARDED_PREFIX) || lowerName === 'x-real-ip'
}

/**
 * The name as upstreams may read it that turn fields into variables (CGI, WSGI): there
 * `X_Forwarded_For` and `X-Forwarded-For` are the same.
 */
export function toDashed(lowerName: string): string {
  return lowerName.includes('_') ? lowerName.replaceAll('_', '-') : lowerName
}
