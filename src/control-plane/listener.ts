import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { CheckKey } from '../app/check-key.ts'
import type { ReloadOutcome } from '../app/management.ts'
import type { Clock, Logger, Random } from '../ports/runtime.ts'
import type { KeyStore } from '../ports/stores.ts'
import { type AnswerRequest, createAdminEndpoint, type MetricsSource } from './admin-endpoint.ts'
import { type Answer, sendAnswer, toPlainError } from './answers.ts'
import type { Readiness } from './health-endpoint.ts'
import { ClientGone } from './request-body.ts'
import type { ScriptDeps, ScriptRules } from './script-endpoint.ts'

/** The part of the configuration that this listener lives by. */
export interface AdminSettings {
  readonly listen: { readonly host: string; readonly port: number }
  /** Acts for an admin service key, `sk_root`. Empty or absent: there is none. */
  readonly root_token?: string | undefined
  readonly require_expiration: boolean
  readonly script: Pick<ScriptRules, 'limit' | 'namespaces'>
}

export interface AdminListenerDeps {
  /** Asked at every request, so that a reload holds at once; `listen` is read once. */
  readonly config: () => { readonly admin: AdminSettings }
  readonly keyStore: KeyStore
  readonly checkKey: CheckKey
  readonly script: ScriptDeps['script']
  /** Prefixes of the gateway's own keys in the cache database. */
  readonly reservedPrefixes: readonly string[]
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly metrics: MetricsSource
  readonly readiness: () => Promise<Readiness>
  readonly reload: () => Promise<ReloadOutcome>
  readonly version: string
  /** For tests; the defaults are the ones that operators get. */
  readonly timeouts?: Partial<AdminTimeouts>
}

export interface AdminTimeouts {
  readonly headersMs: number
  /** For the whole request, its body included. */
  readonly requestMs: number
  readonly keepAliveMs: number
  /** How long `close` waits for requests that are running. */
  readonly closeMs: number
}

export interface AdminListener {
  readonly address: { readonly host: string; readonly port: number }
  /** From now on `/readyz` answers 503; everything else goes on. */
  drain(): void
  /** Drains, accepts no more, and resolves when what ran has ended or was cut off. */
  close(): Promise<void>
}

const TIMEOUTS: AdminTimeouts = { headersMs: 10_000, requestMs: 30_000, keepAliveMs: 65_000, closeMs: 5_000 }
const TIMEOUT_CHECK_MS = 1_000
const HEADER_BYTES_MAX = 16 * 1024
const CONNECTIONS_MAX = 512
const REQUEST_ID_BYTES = 16

/** Every answer is for one caller at one moment, and is what its type says. */
const FIXED_HEADERS = { 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff' }

/**
 * Opens the admin listener. Rejects with an `Error` whose message tells people what to do where
 * the address cannot be had.
 */
export async function openAdminListener(deps: AdminListenerDeps): Promise<AdminListener> {
  const timeouts = { ...TIMEOUTS, ...deps.timeouts }
  let isDraining = false
  let closing: Promise<void> | undefined
  const answering = new WeakMap<Socket, ServerResponse>()

  const answerRequest = createAdminEndpoint({
    ...deps,
    isDraining: () => isDraining,
    isExpirationRequired: () => deps.config().admin.require_expiration,
    findRootToken: () => deps.config().admin.root_token || undefined,
    scriptRules: () => ({ ...deps.config().admin.script, reserved: deps.reservedPrefixes }),
  })
  const server = createAdminServer(timeouts)
  server.on('request', (request, response) => {
    answering.set(request.socket, response)
    void serve(deps, answerRequest, request, response, () => closing !== undefined)
  })
  server.on('clientError', (error, socket) =>
    refuse(error, socket as Socket, answering.get(socket as Socket)),
  )
  await listen(server, deps.config().admin.listen)
  server.on('error', (error) => deps.logger.error('admin listener failed', { error: error.message }))

  const bound = server.address() as AddressInfo
  return {
    address: { host: bound.address, port: bound.port },
    drain() {
      isDraining = true
    },
    close() {
      isDraining = true
      closing ??= closeServer(server, timeouts.closeMs)
      return closing
    },
  }
}

function createAdminServer(timeouts: AdminTimeouts): Server {
  const server = createServer({
    headersTimeout: timeouts.headersMs,
    requestTimeout: timeouts.requestMs,
    keepAliveTimeout: timeouts.keepAliveMs,
    connectionsCheckingInterval: Math.min(TIMEOUT_CHECK_MS, timeouts.headersMs),
    maxHeaderSize: HEADER_BYTES_MAX,
  })
  server.maxConnections = CONNECTIONS_MAX
  return server
}

/** Never rejects. */
async function serve(
  deps: AdminListenerDeps,
  answerRequest: AnswerRequest,
  request: IncomingMessage,
  response: ServerResponse,
  isClosing: () => boolean,
): Promise<void> {
  const requestId = Buffer.from(deps.random.bytes(REQUEST_ID_BYTES)).toString('hex')
  // A client that leaves is no event for an operator, and must not become an uncaught error.
  request.on('error', () => {})
  response.on('error', () => {})
  const finish = (answer: Answer) => {
    deps.metrics.countAdminRequest(answer.status)
    const last = isClosing() ? { Connection: 'close' } : {}
    return sendAnswer(request, response, answer, { ...FIXED_HEADERS, 'X-Request-Id': requestId, ...last })
  }
  try {
    await finish(await answerRequest(request, requestId))
  } catch (error) {
    if (error instanceof ClientGone) return
    const text = error instanceof Error ? (error.stack ?? error.message) : typeof error
    deps.logger.error('admin request failed', { request_id: requestId, error: text })
    await finish(toPlainError('internal'))
  }
}

/**
 * For what Node could not read as a request, or did not get in time. Says nothing where an answer
 * is on its way, or where the client would take ours for the answer to an earlier request.
 */
function refuse(error: NodeJS.ErrnoException, socket: Socket, last: ServerResponse | undefined): void {
  const isOther = last !== undefined && !last.writableFinished && (last.headersSent || last.req.complete)
  if (error.code === 'ECONNRESET' || !socket.writable || isOther) {
    socket.destroy()
    return
  }
  const { status, body }: Pick<Answer, 'status' | 'body'> = toRefusal(error.code)
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy())
}

function toRefusal(code: string | undefined): Pick<Answer, 'status' | 'body'> {
  const toBody = (error: string) => JSON.stringify({ error })
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return { status: 431, body: toBody('request header fields too large') }
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return { status: 408, body: toBody('request timeout') }
    default:
      return { status: 400, body: toBody('bad request') }
  }
}

function listen(server: Server, { host, port }: AdminSettings['listen']): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: NodeJS.ErrnoException) => reject(toListenError(error, host, port))
    server.once('error', fail)
    server.listen({ host, port }, () => {
      server.off('error', fail)
      resolve()
    })
  })
}

function toListenError(error: NodeJS.ErrnoException, host: string, port: number): Error {
  const address = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
  const said = `the admin listener cannot listen on ${address}`
  switch (error.code) {
    case 'EADDRINUSE':
      return new Error(
        `${said}: the address is in use. End the process that holds it, or set admin.listen to another port.`,
        { cause: error },
      )
    case 'EACCES':
      return new Error(`${said}: permission denied. Set admin.listen to a port above 1023.`, { cause: error })
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return new Error(`${said}: this machine has no such address. Set admin.listen to one that it has.`, {
        cause: error,
      })
    default:
      return new Error(`${said}: ${error.code ?? error.message}.`, { cause: error })
  }
}

async function closeServer(server: Server, closeMs: number): Promise<void> {
  const cutOff = setTimeout(() => server.closeAllConnections(), closeMs)
  try {
    await new Promise<void>((resolve) => {
      server.close(() => resolve())
      server.closeIdleConnections()
    })
  } finally {
    clearTimeout(cutOff)
  }
}
