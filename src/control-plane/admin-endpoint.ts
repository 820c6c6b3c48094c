import type { IncomingMessage } from 'node:http'
import { RpcError } from '../domain/errors.ts'
import { type Answer, toJsonAnswer, toPlainError } from './answers.ts'
import { answerHealthy, answerLive, answerReady, type HealthDeps } from './health-endpoint.ts'
import { createOpenApi } from './openapi.ts'
import { PROCEDURES_BY_PATH } from './procedure-table.ts'
import { answerRpc, type RpcDeps } from './rpc-endpoint.ts'
import { SCRIPT_CALLS_BY_PATH, SCRIPT_PATH_PREFIX } from './script-calls.ts'
import { answerScript, type ScriptDeps, type ScriptMetrics, toScriptError } from './script-endpoint.ts'

/** Renders the metrics in the format that the `Accept` field asks for. */
export interface MetricsSource extends ScriptMetrics {
  render(accept?: string): Promise<{ readonly contentType: string; readonly body: string }>
  /** Told the status of every answer. */
  countAdminRequest(status: number): void
}

export interface EndpointDeps extends RpcDeps, HealthDeps, ScriptDeps {
  readonly metrics: MetricsSource
  readonly version: string
  isDraining(): boolean
}

type Page = (request: IncomingMessage) => Answer | Promise<Answer>

/** Rejects only with `ClientGone`, and with what a page failed with. */
export type AnswerRequest = (request: IncomingMessage, requestId: string) => Promise<Answer>

/**
 * Finds what a request asks for: a procedure by POST, a page by GET or HEAD. An unknown path is 404
 * and a wrong method 405, both before anybody is asked for a token.
 */
export function createAdminEndpoint(deps: EndpointDeps): AnswerRequest {
  const pages = createPages(deps)
  return async (request, requestId) => {
    const path = readPath(request.url ?? '')
    const procedure = PROCEDURES_BY_PATH.get(path)
    if (procedure !== undefined) {
      if (request.method !== 'POST') return toPlainError('method_not_allowed', { Allow: 'POST' })
      return answerRpc(deps, procedure, request, requestId)
    }
    if (path.startsWith(SCRIPT_PATH_PREFIX)) return routeScript(deps, path, request, requestId)
    const page = pages.get(path)
    if (page === undefined) return toPlainError('not_found')
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return toPlainError('method_not_allowed', { Allow: 'GET, HEAD' })
    }
    return page(request)
  }
}

async function routeScript(
  deps: ScriptDeps,
  path: string,
  request: IncomingMessage,
  requestId: string,
): Promise<Answer> {
  const call = SCRIPT_CALLS_BY_PATH.get(path)
  if (call === undefined) return toScriptError(new RpcError('not_found'))
  if (request.method === 'POST') return answerScript(deps, call, request, requestId)
  return toScriptError(new RpcError('method_not_allowed', { headers: { Allow: 'POST' } }))
}

function createPages(deps: EndpointDeps): ReadonlyMap<string, Page> {
  const openApi = toJsonAnswer(createOpenApi(deps.version))
  return new Map<string, Page>([
    ['/livez', answerLive],
    ['/healthz', answerHealthy],
    ['/readyz', () => answerReady(deps, deps.isDraining())],
    ['/openapi.json', () => openApi],
    [
      '/metrics',
      async (request) => {
        const { contentType, body } = await deps.metrics.render(request.headers.accept)
        return { status: 200, headers: { 'Content-Type': contentType }, body }
      },
    ],
  ])
}

/** The path without its query, as it was sent: nothing here is written in more than one way. */
function readPath(target: string): string {
  const query = target.indexOf('?')
  return query === -1 ? target : target.slice(0, query)
}
