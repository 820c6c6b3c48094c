import type { IncomingMessage } from 'node:http'
import type { Management } from '../app/management.ts'
import { listForbidden, type ScriptKeys } from '../app/script-keys.ts'
import { RPC_ERRORS, RpcError } from '../domain/errors.ts'
import type { CallWindow } from '../ports/call-window.ts'
import type { Logger } from '../ports/runtime.ts'
import { type Answer, toErrorHeaders, toJsonAnswer } from './answers.ts'
import { authenticate, CALLER_AGE_MS_MAX, readApiKey } from './authentication.ts'
import { parseExactly } from './exact-json.ts'
import type { Caller } from './procedure.ts'
import { ClientGone, isJsonType, parseJsonObject, readBody } from './request-body.ts'
import { toRpcError, toText } from './rpc-endpoint.ts'
import type { ScriptCall, ScriptCallName, ScriptResult } from './script-calls.ts'

export interface ScriptDeps extends Pick<Management, 'keyStore' | 'findRootToken' | 'clock'> {
  readonly script: ScriptKeys & { readonly callWindow: CallWindow }
  readonly scriptRules: () => ScriptRules
  readonly logger: Logger
  readonly metrics: ScriptMetrics
}

/** Of the configuration in force. */
export interface ScriptRules {
  /** Calls of one service key in any 60 s. */
  readonly limit: number
  /** Prefixes of the keys that may be named; `*` allows any. */
  readonly namespaces: readonly string[]
  /** Prefixes of the gateway's own keys. */
  readonly reserved: readonly string[]
}

export interface ScriptMetrics {
  countScriptCall(call: ScriptCallName, outcome: ScriptOutcome, keys: ScriptKeyCounts): void
}

export type ScriptKeyCounts = Pick<ScriptResult, 'done' | 'missing' | 'failed'>
export type ScriptOutcome = (typeof OUTCOMES)[keyof typeof OUTCOMES] | 'gone' | 'error'

const OUTCOMES = {
  200: 'success',
  202: 'pending',
  400: 'invalid',
  401: 'unauthorized',
  403: 'forbidden',
  413: 'invalid',
  422: 'invalid',
  429: 'limited',
  502: 'failed',
  503: 'unavailable',
} as const

const ROLE = 'SCRIPT'
const BODY_BYTES_MAX = 16 * 1024 * 1024
const AUDIT_KEYS_MAX = 100
const AUDIT_KEY_LENGTH_MAX = 64
const NO_KEYS: ScriptKeyCounts = { done: 0, missing: 0, failed: 0 }

/** What becomes known of a call on its way; the audit line tells all of it. */
interface Audit {
  skid?: string
  keys?: readonly string[]
  result?: ScriptResult
  error?: unknown
}

/**
 * One call of the script API: 401, then 429, 403 for the role, 400, 403 for the keys, then the work
 * (contract section 6). Leaves one line in the log, whatever came of it. Rejects only with
 * `ClientGone`.
 */
export async function answerScript(
  deps: ScriptDeps,
  call: ScriptCall,
  request: IncomingMessage,
  requestId: string,
): Promise<Answer> {
  const startedMs = performance.now()
  const audit: Audit = {}
  const finish = (outcome: ScriptOutcome, status?: number) =>
    recordCall(deps, call, { request_id: requestId, outcome, status, startedMs }, audit)
  try {
    const result = await runCall(deps, call, request, audit)
    finish(OUTCOMES[result.status], result.status)
    return toJsonAnswer(result.body, result.status)
  } catch (thrown) {
    if (thrown instanceof ClientGone) {
      finish('gone')
      throw thrown
    }
    const error = toRpcError(thrown)
    const { status, owner } = RPC_ERRORS[error.code]
    if (owner !== 'client') audit.error = thrown
    finish(OUTCOMES[status as keyof typeof OUTCOMES] ?? 'error', status)
    return toScriptError(error)
  }
}

/** The error shape of the script API. */
export function toScriptError(error: RpcError): Answer {
  const { status, message } = RPC_ERRORS[error.code]
  const { invalidPositions, details } = error
  const body = {
    status: 'error',
    error: message,
    ...(invalidPositions.length > 0 ? { invalid_positions: invalidPositions } : {}),
    ...(details.length > 0 ? { details } : {}),
  }
  return { ...toJsonAnswer(body, status), headers: toErrorHeaders(error) }
}

async function runCall(
  deps: ScriptDeps,
  call: ScriptCall,
  request: IncomingMessage,
  audit: Audit,
): Promise<ScriptResult> {
  const startedMs = deps.clock.bucketMs()
  const caller = await authenticate(deps, request, readApiKey)
  audit.skid = caller.serviceKey.skid
  const { limit, namespaces, reserved } = deps.scriptRules()
  const turn = await deps.script.callWindow.enter(caller.serviceKey.skid, limit)
  if (turn.kind === 'denied') {
    const seconds = Math.ceil(turn.retryAfterMs / 1000)
    throw new RpcError('rate_limit_exceeded', { headers: { 'Retry-After': String(seconds) } })
  }
  assertRole(caller)
  if (!isJsonType(request.headers['content-type'])) throw new RpcError('unsupported_content_type')
  const body = await readBody(request, BODY_BYTES_MAX)
  if (deps.clock.bucketMs() - startedMs > CALLER_AGE_MS_MAX) {
    assertRole(await authenticate(deps, request, readApiKey))
  }
  const valid = call.validate(parseJsonObject(body, parseExactly))
  audit.keys = valid.keys
  const forbidden = listForbidden(valid.keys, { namespaces, reserved })
  if (forbidden.length > 0) {
    throw new RpcError('key_forbidden', {
      invalidPositions: forbidden,
      details: ['keys must be in admin.script.namespaces, and must not be those of the gateway itself'],
    })
  }
  audit.result = await valid.run(deps.script)
  return audit.result
}

/** To be an admin gives no role. */
function assertRole({ serviceKey }: Caller): void {
  if (!serviceKey.roles.includes(ROLE)) throw new RpcError('role_missing')
}

function recordCall(
  { logger, metrics }: ScriptDeps,
  { name }: ScriptCall,
  ended: {
    readonly request_id: string
    readonly outcome: ScriptOutcome
    readonly status: number | undefined
    readonly startedMs: number
  },
  { skid, keys, result, error }: Audit,
): void {
  const { startedMs, ...fields } = ended
  const cause = error ?? result?.cause
  metrics.countScriptCall(name, ended.outcome, result ?? NO_KEYS)
  logger[cause === undefined ? 'info' : 'warn']('script call', {
    ...fields,
    skid,
    call: name,
    key_count: keys?.length,
    keys: keys?.slice(0, AUDIT_KEYS_MAX).map((key) => key.slice(0, AUDIT_KEY_LENGTH_MAX)),
    ...(result === undefined ? {} : { done: result.done, missing: result.missing, failed: result.failed }),
    duration_ms: Math.round(performance.now() - startedMs),
    ...(cause === undefined ? {} : { error: toText(cause) }),
  })
}
