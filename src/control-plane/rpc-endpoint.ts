import type { IncomingMessage } from 'node:http'
import type { Management } from '../app/management.ts'
import { RPC_ERRORS, RpcError } from '../domain/errors.ts'
import type { Logger } from '../ports/runtime.ts'
import { StoreUnavailable } from '../ports/stores.ts'
import { type Answer, toErrorAnswer, toJsonAnswer } from './answers.ts'
import { authenticate, CALLER_AGE_MS_MAX } from './authentication.ts'
import type { Caller, Procedure } from './procedure.ts'
import { ClientGone, isJsonType, parseJsonObject, readBody } from './request-body.ts'

const BODY_BYTES_MAX = 1024 * 1024

export interface RpcDeps extends Management {
  readonly logger: Logger
}

/**
 * One call of one procedure: authenticate, read and parse, validate, authorise, handle, encode, in
 * this order (contract section 5, point 2). Rejects only with `ClientGone`.
 */
export async function answerRpc(
  deps: RpcDeps,
  procedure: Procedure,
  request: IncomingMessage,
  requestId: string,
): Promise<Answer> {
  let skid: string | undefined
  try {
    const startedMs = deps.clock.bucketMs()
    let caller = await authenticate(deps, request)
    const call = procedure.validate(await readParams(procedure, request))
    if (deps.clock.bucketMs() - startedMs > CALLER_AGE_MS_MAX) caller = await authenticate(deps, request)
    skid = caller.serviceKey.skid
    const answer = toJsonAnswer(await runAllowed(deps, call, caller))
    logOutcome(deps.logger, procedure, { request_id: requestId, skid, status: answer.status })
    return answer
  } catch (error) {
    if (error instanceof ClientGone) throw error
    return toFailure(deps.logger, procedure, requestId, skid, error)
  }
}

async function readParams(procedure: Procedure, request: IncomingMessage): Promise<object> {
  if (procedure.isBodyIgnored) return {}
  if (!isJsonType(request.headers['content-type'])) throw new RpcError('unsupported_content_type')
  return parseJsonObject(await readBody(request, BODY_BYTES_MAX))
}

async function runAllowed(
  deps: RpcDeps,
  call: ReturnType<Procedure['validate']>,
  caller: Caller,
): Promise<unknown> {
  if (!call.isAllowed(caller)) throw new RpcError('unauthorized')
  return call.run(deps, caller)
}

function toFailure(
  logger: Logger,
  procedure: Procedure,
  requestId: string,
  skid: string | undefined,
  thrown: unknown,
): Answer {
  const error = toRpcError(thrown)
  const { status, owner } = RPC_ERRORS[error.code]
  const fields = { request_id: requestId, skid, status }
  if (error.code === 'internal') {
    logger.error('management call failed', { ...fields, procedure: procedure.name, error: toText(thrown) })
  } else if (owner === 'store') {
    logger.warn('management call met the store', {
      ...fields,
      procedure: procedure.name,
      error: toText(thrown),
    })
  } else {
    logOutcome(logger, procedure, fields)
  }
  return toErrorAnswer(error)
}

export function toRpcError(thrown: unknown): RpcError {
  if (thrown instanceof RpcError) return thrown
  if (thrown instanceof StoreUnavailable) {
    return new RpcError('store_unavailable', { cause: thrown, headers: { 'Retry-After': '1' } })
  }
  return new RpcError('internal', { cause: thrown })
}

/** Who changed what, as far as it may be said: never a token, and no parameter. */
function logOutcome(
  logger: Logger,
  procedure: Procedure,
  fields: { request_id: string; skid: string | undefined; status: number },
): void {
  const line = { procedure: procedure.name, ...fields }
  if (procedure.writes) logger.info('management call', line)
  else logger.debug('management call', line)
}

/** For the log. */
export function toText(thrown: unknown): string {
  if (!(thrown instanceof Error)) return typeof thrown
  const cause = thrown.cause instanceof Error ? `; cause: ${thrown.cause.message}` : ''
  return (thrown.stack ?? thrown.message) + cause
}
