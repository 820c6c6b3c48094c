import { GATEWAY_ERRORS, type GatewayErrorCode } from '../domain/errors.ts'
import type { SteadyFields, WholeAnswer } from '../ports/transport.ts'
import { POLICY_NAME } from './rate-limit-fields.ts'
import {
  equalsIgnoreCase,
  findComma,
  joinFields,
  type RawHeaders,
  startsWithIgnoreCase,
  trimBlanks,
} from './raw-headers.ts'

export interface LocalAnswerInput {
  readonly code: GatewayErrorCode
  /** Of `[A-Za-z0-9._-]`. */
  readonly requestId: string
  readonly method: string
  /** What `asksProblem` says of the request. */
  readonly asksProblem: boolean
  /** Value of `Allow`, for a 405. */
  readonly allow?: string | undefined
  /** Value of `Retry-After`. */
  readonly retryAfter?: string | undefined
  /** Raw list of more fields, such as `RateLimit`. */
  readonly fields?: RawHeaders | undefined
}

/** What all answers of one code have in common. */
interface Template {
  /** The body but for the request id in the middle. */
  readonly before: string
  readonly after: string
  /** By the length of the request id. */
  readonly steady: (SteadyFields | undefined)[]
  readonly type: string
  readonly challenge: string | undefined
}

type Templates = Readonly<Record<GatewayErrorCode, Template>>

const PLAIN_TYPE = 'application/json'
const PROBLEM_TYPE = 'application/problem+json'
const QUOTA_EXCEEDED = 'https://iana.org/assignments/http-problem-types#quota-exceeded'
/** A number from 0 to 1 with at most three digits behind the point. */
const WEIGHT = /^(0(\.\d{0,3})?|1(\.0{0,3})?)$/
const ID_MARK = '\u0000'

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
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

const PLAIN = compileTemplates(PLAIN_TYPE, toPlainBody)
const PROBLEMS = compileTemplates(PROBLEM_TYPE, toProblemBody)

/**
 * An answer of the gateway itself, as JSON or, where the client asks for it, as a problem of RFC
 * 9457. It holds the public text of the code and the request id, and nothing else.
 */
export function buildLocalAnswer(input: LocalAnswerInput): WholeAnswer {
  const { code, requestId } = input
  const template = input.asksProblem ? PROBLEMS[code] : PLAIN[code]
  const fresh = ['X-Request-Id', requestId]
  if (input.allow !== undefined) fresh.push('Allow', input.allow)
  if (input.retryAfter !== undefined) fresh.push('Retry-After', input.retryAfter)
  return {
    status: GATEWAY_ERRORS[code].status,
    steady: listSteadyFields(template, requestId.length),
    fresh: input.fields === undefined ? fresh : fresh.concat(input.fields),
    // For HEAD, `Content-Length` still tells what GET would have got.
    body: input.method === 'HEAD' ? '' : template.before + requestId + template.after,
    mustClose: CLOSING_CODES.has(code),
  }
}

function listSteadyFields(template: Template, idLength: number): SteadyFields {
  const known = template.steady[idLength]
  if (known !== undefined) return known
  const { before, after, type, challenge } = template
  const list = ['Content-Type', type, 'Content-Length', String(before.length + idLength + after.length)]
  list.push('Cache-Control', 'no-store', 'Via', '1.1 dripgate')
  if (challenge !== undefined) list.push('WWW-Authenticate', challenge)
  const steady = { list, encoded: undefined }
  template.steady[idLength] = steady
  return steady
}

/**
 * Whether `Accept` names the problem type itself (`*` does not ask for it), with a weight above 0
 * and not below that of plain JSON.
 */
export function asksProblem(rawHeaders: RawHeaders): boolean {
  const accept = joinFields(rawHeaders, 'accept')
  if (accept.length < PROBLEM_TYPE.length) return false
  const problem = findWeight(accept, PROBLEM_TYPE) ?? 0
  if (problem === 0) return false
  const plain =
    findWeight(accept, PLAIN_TYPE) ?? findWeight(accept, 'application/*') ?? findWeight(accept, '*/*')
  return problem >= (plain ?? 0)
}

function findWeight(accept: string, range: string): number | undefined {
  for (let start = 0; start < accept.length; ) {
    const end = findComma(accept, start)
    const item = accept.slice(start, end)
    if (equalsIgnoreCase(trimBlanks(item, 0, findSemicolon(item, 0)), range)) return readWeight(item)
    start = end + 1
  }
  return undefined
}

/** The weight of an item of `Accept` (RFC 9110 section 12.4.2): 1 without any, 0 where it is malformed. */
function readWeight(item: string): number {
  for (let start = findSemicolon(item, 0) + 1; start < item.length; ) {
    const end = findSemicolon(item, start)
    const parameter = trimBlanks(item, start, end)
    if (startsWithIgnoreCase(parameter, 'q=')) {
      const weight = parameter.slice(2)
      return WEIGHT.test(weight) ? Number(weight) : 0
    }
    start = end + 1
  }
  return 1
}

function findSemicolon(text: string, start: number): number {
  const index = text.indexOf(';', start)
  return index < 0 ? text.length : index
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

function compileTemplates(type: string, toBody: (code: GatewayErrorCode) => object): Templates {
  const compile = (code: GatewayErrorCode): Template => {
    const [before = '', after = ''] = JSON.stringify(toBody(code)).split(JSON.stringify(ID_MARK).slice(1, -1))
    return { before, after, steady: [], type, challenge: CHALLENGES.get(code) }
  }
  const entries = Object.keys(GATEWAY_ERRORS).map((code) => [code, compile(code as GatewayErrorCode)])
  return Object.fromEntries(entries) as Templates
}
