import { GATEWAY_ERRORS, type GatewayErrorCode } from '../domain/errors.ts'
import { POLICY_NAME } from './rate-limit-fields.ts'
import { equalsIgnoreCase, findComma, joinFields, type RawHeaders, trimBlanks } from './raw-headers.ts'

export interface LocalAnswerInput {
  readonly code: GatewayErrorCode
  /** Of `[A-Za-z0-9._-]`. */
  readonly requestId: string
  readonly method: string
  /** Of the request; empty where it could not be parsed. */
  readonly rawHeaders: RawHeaders
  /** Value of `Allow`, for a 405. */
  readonly allow?: string | undefined
  /** Value of `Retry-After`. */
  readonly retryAfter?: string | undefined
  /** Raw list of more fields, such as `RateLimit`. */
  readonly fields?: RawHeaders | undefined
}

/** An answer that the gateway gives itself. */
export interface LocalAnswer {
  readonly status: number
  readonly rawHeaders: string[]
  /** ASCII; `''` for HEAD, though `Content-Length` tells what GET would have got. */
  readonly body: string
  /** The connection cannot be used again: the front says `Connection: close` and closes it. */
  readonly mustClose: boolean
}

/** A body but for the request id in the middle. */
interface BodyParts {
  readonly before: string
  readonly after: string
}

type BodyTable = Readonly<Record<GatewayErrorCode, BodyParts>>

const PROBLEM_TYPE = 'application/problem+json'
const QUOTA_EXCEEDED = 'https://iana.org/assignments/http-problem-types#quota-exceeded'
const ID_MARK = '\u0000'

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  413: 'Content Too Large',
  414: 'URI Too Long',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
}

const CHALLENGES: ReadonlyMap<GatewayErrorCode, string> = new Map([
  ['missing_token', 'Bearer'],
  ['invalid_token', 'Bearer error="invalid_token"'],
  ['expired_token', 'Bearer error="invalid_token"'],
])

/** After these the bytes that follow on the connection are not known to be a request. */
const CLOSING_CODES: ReadonlySet<GatewayErrorCode> = new Set([
  'bad_request',
  'request_timeout',
  'body_too_large',
  'uri_too_long',
  'headers_too_large',
])

const PLAIN_BODIES = compileBodies(toPlainBody)
const PROBLEM_BODIES = compileBodies(toProblemBody)

/**
 * An answer of the gateway itself, as JSON or, where the client asks for it, as a problem of RFC
 * 9457. It holds the public text of the code and the request id, and nothing else.
 */
export function buildLocalAnswer(input: LocalAnswerInput): LocalAnswer {
  const { code, requestId } = input
  const isProblem = acceptsProblem(input.rawHeaders)
  const parts = isProblem ? PROBLEM_BODIES[code] : PLAIN_BODIES[code]
  const body = parts.before + requestId + parts.after
  const rawHeaders = [
    'Content-Type',
    isProblem ? PROBLEM_TYPE : 'application/json',
    'Content-Length',
    String(body.length),
    'Cache-Control',
    'no-store',
    'X-Request-Id',
    requestId,
    'Via',
    '1.1 dripgate',
  ]
  const challenge = CHALLENGES.get(code)
  if (challenge !== undefined) rawHeaders.push('WWW-Authenticate', challenge)
  if (input.allow !== undefined) rawHeaders.push('Allow', input.allow)
  if (input.retryAfter !== undefined) rawHeaders.push('Retry-After', input.retryAfter)
  for (const part of input.fields ?? []) rawHeaders.push(part)
  return {
    status: GATEWAY_ERRORS[code].status,
    rawHeaders,
    body: input.method === 'HEAD' ? '' : body,
    mustClose: CLOSING_CODES.has(code),
  }
}

/** Whether `Accept` names the problem type itself, with a quality above 0; `*` does not ask for it. */
function acceptsProblem(rawHeaders: RawHeaders): boolean {
  const accept = joinFields(rawHeaders, 'accept')
  for (let start = 0; start < accept.length; ) {
    const end = findComma(accept, start)
    const [type = '', ...parameters] = accept.slice(start, end).split(';')
    if (equalsIgnoreCase(trimBlanks(type), PROBLEM_TYPE)) return !parameters.some(isZeroQuality)
    start = end + 1
  }
  return false
}

function isZeroQuality(parameter: string): boolean {
  const [name = '', value = ''] = parameter.split('=')
  return equalsIgnoreCase(trimBlanks(name), 'q') && Number(trimBlanks(value)) === 0
}

function toPlainBody(code: GatewayErrorCode): object {
  return { error: { code, message: GATEWAY_ERRORS[code].message, request_id: ID_MARK } }
}

function toProblemBody(code: GatewayErrorCode): object {
  const { status, message } = GATEWAY_ERRORS[code]
  const isQuota = code === 'rate_limited'
  return {
    type: isQuota ? QUOTA_EXCEEDED : 'about:blank',
    title: TITLES[status],
    status,
    detail: message,
    code,
    request_id: ID_MARK,
    ...(isQuota ? { 'violated-policies': [POLICY_NAME] } : {}),
  }
}

function compileBodies(toBody: (code: GatewayErrorCode) => object): BodyTable {
  const compile = (code: GatewayErrorCode): BodyParts => {
    const [before = '', after = ''] = JSON.stringify(toBody(code)).split(JSON.stringify(ID_MARK).slice(1, -1))
    return { before, after }
  }
  const entries = Object.keys(GATEWAY_ERRORS).map((code) => [code, compile(code as GatewayErrorCode)])
  return Object.fromEntries(entries) as BodyTable
}
