import { z } from 'zod'
import { RPC_ERRORS, type RpcErrorCode } from '../domain/errors.ts'
import { SCRIPT_CALLS, SCRIPT_PATH_PREFIX, type ScriptCall } from './script-calls.ts'

type Json = Record<string, unknown>

const ERRORS: readonly RpcErrorCode[] = [
  'invalid_json',
  'invalid_payload',
  'values_too_large',
  'unauthorized',
  'role_missing',
  'key_forbidden',
  'payload_too_large',
  'unsupported_content_type',
  'rate_limit_exceeded',
  'internal',
  'store_unavailable',
]

const scriptError = z.object({
  status: z.literal('error'),
  error: z.string().describe('The reason.'),
  invalid_positions: z.array(z.int()).optional().describe('Of the items at fault, from 0.'),
  details: z.array(z.string()).optional().describe('One sentence per fault, for people.'),
})

const failure = scriptError.extend({
  failed: z
    .array(z.string())
    .describe('Keys that may or may not have been done; it is safe to repeat the call.'),
})

/** The script API's part of the OpenAPI document. */
export function createScriptPaths(): Json {
  return Object.fromEntries(
    SCRIPT_CALLS.map((call) => [SCRIPT_PATH_PREFIX + call.name, { post: toOperation(call) }]),
  )
}

export const SCRIPT_SECURITY_SCHEME = {
  type: 'apiKey',
  in: 'header',
  name: 'X-API-KEY',
  description: 'The token of a service key with the role SCRIPT; `Authorization: Bearer` does as well.',
}

function toOperation({ name, aliases, summary, params, result, example }: ScriptCall): Json {
  const names = aliases.map((alias) => `\`${SCRIPT_PATH_PREFIX}${alias}\``).join(', ')
  const success = { content: toContent(result, 'output', example.result) }
  return {
    operationId: name,
    tags: ['script'],
    summary,
    description: `Needs a service key with the role SCRIPT.${names === '' ? '' : ` Also at ${names}.`}`,
    security: [{ scriptKey: [] }, { serviceKey: [] }],
    requestBody: { required: true, content: toContent(params, 'input', example.params) },
    responses: {
      200: { description: 'Done.', ...success },
      ...(name === 'invalidate-cache' ? { 202: { description: 'Not yet on every node.', ...success } } : {}),
      ...toErrorResponses(),
      502: {
        description: 'The cache database failed; the body says what was done and what was not.',
        content: toContent(failure, 'output'),
      },
    },
  }
}

function toErrorResponses(): Json {
  const byStatus = Map.groupBy(ERRORS, (code) => RPC_ERRORS[code].status)
  return Object.fromEntries(
    [...byStatus].map(([status, codes]) => [
      status,
      {
        description: codes.map((code) => RPC_ERRORS[code].message).join(' / '),
        ...(status === 429
          ? {
              headers: {
                'Retry-After': { description: 'Whole seconds.', schema: { type: 'integer', minimum: 1 } },
              },
            }
          : {}),
        content: toContent(scriptError, 'output'),
      },
    ]),
  )
}

function toContent(schema: z.ZodType, io: 'input' | 'output', example?: unknown): Json {
  const { $schema: _, ...json } = z.toJSONSchema(schema, {
    io,
    // Fields may be added to any answer.
    override: ({ jsonSchema }) => {
      if (jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties
    },
  })
  return { 'application/json': { schema: json, ...(example === undefined ? {} : { example }) } }
}
