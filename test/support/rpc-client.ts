import { type IncomingHttpHeaders, request as sendRequest } from 'node:http'
import { expect } from 'vitest'
import { PROCEDURES } from '../../src/control-plane/procedure-table.ts'

/** An admin listener to be tested, wherever it runs. Only its address and root token are known. */
export interface AdminUnderTest {
  /** `http://127.0.0.1:PORT` */
  readonly origin: string
  readonly rootToken: string
  close(): Promise<void>
}

export type StartAdmin = (options?: { readonly requireExpiration?: boolean }) => Promise<AdminUnderTest>

export interface RawAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
}

// biome-ignore lint/suspicious/noExplicitAny: answers are read the way a JavaScript client would.
type Json = any

export interface RpcAnswer extends RawAnswer {
  readonly body: Json
}

/** One request on a connection of its own. */
export function send(
  origin: string,
  path: string,
  options: { method?: string; headers?: Record<string, string | string[]>; body?: string | Uint8Array } = {},
): Promise<RawAnswer> {
  const { method = 'POST', headers = {}, body } = options
  return new Promise((resolve, reject) => {
    const request = sendRequest(origin + path, { method, headers, agent: false }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString()
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text })
      })
    })
    request.on('error', reject)
    request.end(body)
  })
}

export interface RpcClient {
  readonly origin: string
  readonly token: string
  /** Holds every success against the result schema of the procedure, to the last field. */
  call(procedure: string, params?: unknown): Promise<RpcAnswer>
  /** The same for a call that must succeed. */
  ok(procedure: string, params?: unknown): Promise<Json>
  as(token: string): RpcClient
}

export function createRpcClient(origin: string, token: string): RpcClient {
  const client: RpcClient = {
    origin,
    token,
    async call(procedure, params = {}) {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
      const body = typeof params === 'string' ? params : JSON.stringify(params)
      const answer = await send(origin, `/v1/${procedure}`, { headers, body })
      const parsed: Json = JSON.parse(answer.text)
      if (answer.status === 200) assertResult(procedure, parsed)
      return { ...answer, body: parsed }
    },
    async ok(procedure, params) {
      const answer = await client.call(procedure, params)
      expect(answer, answer.text).toMatchObject({ status: 200 })
      return answer.body
    },
    as: (other) => createRpcClient(origin, other),
  }
  return client
}

function assertResult(procedure: string, answer: unknown): void {
  const schema = PROCEDURES.find(({ name }) => name === procedure)?.result
  if (schema === undefined) throw new Error(`no procedure ${procedure}`)
  expect(schema.parse(answer)).toEqual(answer)
}

let serial = 0

/** Fit for names, prefixes and ids, and never the same twice in a run. */
export function unique(): string {
  serial++
  return `${process.pid.toString(36)}${serial.toString(36)}`
}

export async function createTestKeyspace(
  admin: RpcClient,
  more: Record<string, unknown> = {},
): Promise<string> {
  const tag = unique()
  const { ksid } = await admin.ok('keyspaces.create', {
    name: `keyspace ${tag}`,
    keys_prefix: `${tag}_`,
    ...more,
  })
  return ksid
}

/** A client that acts for a new service key with these policies. */
export async function createTenant(
  admin: RpcClient,
  policies: Record<string, { read?: boolean; write?: boolean }>,
  more: Record<string, unknown> = {},
): Promise<RpcClient & { readonly skid: string }> {
  const { skid, token } = await admin.ok('serviceKeys.create', { keyspaces_policies: policies, ...more })
  return { ...admin.as(token), skid }
}
