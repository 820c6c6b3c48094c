import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { RPC_ERRORS, type RpcError, type RpcErrorCode } from '../domain/errors.ts'

/** An answer of the admin listener, ready to be sent. */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** A body that is still on its way is read to its end up to this size; then the connection lives on. */
const UNREAD_BYTES_MAX = 64 * 1024
/** How much of a larger one is thrown away, so that the client gets to see the answer. */
const DISCARD_BYTES_MAX = 8 * 1024 * 1024
const DISCARD_TIMEOUT_MS = 2_000

const JSON_HEADERS = { 'Content-Type': 'application/json' }

export function toJsonAnswer(value: unknown, status = 200): Answer {
  return { status, headers: JSON_HEADERS, body: JSON.stringify(value) }
}

/** The error shape of the RPC; nothing of the error's internal text goes out. */
export function toErrorAnswer(error: RpcError): Answer {
  const { code, invalidFields, details } = error
  const { status, message } = RPC_ERRORS[code]
  const body = {
    error: message,
    ...(invalidFields.length > 0 ? { invalid_fields: invalidFields } : {}),
    ...(details.length > 0 ? { details } : {}),
  }
  return { ...toJsonAnswer(body, status), headers: toErrorHeaders(error) }
}

export function toErrorHeaders({ code, headers }: RpcError): Answer['headers'] {
  const challenge = RPC_ERRORS[code].status === 401 ? { 'WWW-Authenticate': 'Bearer' } : {}
  return { ...JSON_HEADERS, ...challenge, ...headers }
}

export function toPlainError(code: RpcErrorCode, headers: Readonly<Record<string, string>> = {}): Answer {
  const { status, message } = RPC_ERRORS[code]
  return { status, headers: { ...JSON_HEADERS, ...headers }, body: JSON.stringify({ error: message }) }
}

/**
 * Sends an answer. Where the request's body was not read, closing at once would reset the
 * connection and could destroy the answer on its way, so some of the body is thrown away first.
 */
export async function sendAnswer(
  request: IncomingMessage,
  response: ServerResponse,
  { status, headers, body }: Answer,
  extra: Readonly<Record<string, string>>,
): Promise<void> {
  if (response.destroyed || response.headersSent) return
  const mustDiscard = hasUnreadBody(request)
  response.writeHead(status, {
    ...headers,
    ...extra,
    ...(mustDiscard ? { Connection: 'close' } : {}),
    'Content-Length': Buffer.byteLength(body),
  })
  if (mustDiscard) {
    response.write(body)
    await discardBody(request)
  }
  response.end(mustDiscard ? undefined : body)
}

function hasUnreadBody(request: IncomingMessage): boolean {
  if (request.complete) return false
  const length = request.headers['content-length']
  if (length !== undefined) return Number(length) > UNREAD_BYTES_MAX
  return request.headers['transfer-encoding'] !== undefined
}

async function discardBody(request: IncomingMessage): Promise<void> {
  const enough = new AbortController()
  const timer = setTimeout(() => enough.abort(), DISCARD_TIMEOUT_MS)
  let bytes = 0
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > DISCARD_BYTES_MAX) enough.abort()
  })
  try {
    await once(request, 'close', { signal: enough.signal })
  } catch {
    // Too long, too slow or gone: the connection is closed in every case.
  } finally {
    clearTimeout(timer)
  }
}
