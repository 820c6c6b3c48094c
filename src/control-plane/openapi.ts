import { z } from 'zod'
import { RPC_ERRORS, type RpcErrorCode } from '../domain/errors.ts'
import type { Procedure } from './procedure.ts'
import { PROCEDURES, RPC_PATH_PREFIX } from './procedure-table.ts'
import { NAMED_RESULTS } from './results.ts'
import { createScriptPaths, SCRIPT_SECURITY_SCHEME } from './script-openapi.ts'

type Json = Record<string, unknown>

/** What every procedure can answer, whatever it does. */
const SHARED_ERRORS: readonly RpcErrorCode[] = ['unauthorized', 'internal', 'store_unavailable']
/** What the body can bring about. */
const BODY_ERRORS: readonly RpcErrorCode[] = [
  'invalid_json',
  'invalid_payload',
  'payload_too_large',
  'unsupported_content_type',
]

const errorResult = z.object({
  error: z.string().describe('The reason, from a closed set.'),
  invalid_fields: z.array(z.string()).optional().describe('Names of the parameters at fault.'),
  details: z.array(z.string()).optional().describe('One sentence per fault, for people.'),
})

/** OpenAPI 3.1 of the management RPC and the script API, generated from what answers them. */
export function createOpenApi(version: string): Json {
  return {
    openapi: '3.1.0',
    info: {
      title: 'Dripgate management RPC and script API',
      version,
      description:
        'JSON in, JSON out, always by POST. It is not JSON-RPC 2.0: the path names the procedure. ' +
        'A call without a body needs `{}`, except for serviceKeys.current. ' +
        'The script API is under /script and has error bodies of its own.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    security: [{ serviceKey: [] }],
    tags: ['keys', 'keyspaces', 'serviceKeys', 'config', 'script'].map((name) => ({ name })),
    paths: {
      ...Object.fromEntries(
        PROCEDURES.map((procedure) => [RPC_PATH_PREFIX + procedure.name, { post: toOperation(procedure) }]),
      ),
      ...createScriptPaths(),
    },
    components: {
      securitySchemes: {
        serviceKey: { type: 'http', scheme: 'bearer', description: 'The token of a service key.' },
        scriptKey: SCRIPT_SECURITY_SCHEME,
      },
      schemas: toComponents(),
    },
  }
}

function toOperation(procedure: Procedure): Json {
  const { name, summary, needs, example, isBodyIgnored } = procedure
  const [tag] = name.split('.')
  return {
    operationId: name,
    tags: [tag],
    summary,
    description: `Needs ${needs}.`,
    ...(isBodyIgnored
      ? {}
      : {
          requestBody: { required: true, content: toContent(refTo(toParamsName(procedure)), example.params) },
        }),
    responses: {
      200: { description: 'Done.', content: toContent(refTo(toResultName(procedure)), example.result) },
      ...toErrorResponses(procedure),
    },
  }
}

function toErrorResponses(procedure: Procedure): Json {
  const codes = [...(procedure.isBodyIgnored ? [] : BODY_ERRORS), ...SHARED_ERRORS, ...procedure.errors]
  const byStatus = Map.groupBy(codes, (code) => RPC_ERRORS[code].status)
  return Object.fromEntries(
    [...byStatus].map(([status, group]) => [
      status,
      {
        description: group.map((code) => RPC_ERRORS[code].message).join(' / '),
        ...toResponseHeaders(status),
        content: toContent(refTo('Error'), { error: RPC_ERRORS[group[0] ?? 'internal'].message }),
      },
    ]),
  )
}

function toResponseHeaders(status: number): Json {
  if (status === 401) {
    return { headers: { 'WWW-Authenticate': { schema: { type: 'string', const: 'Bearer' } } } }
  }
  if (status !== 429) return {}
  const description = 'Whole seconds; left out where the bucket never refills.'
  return { headers: { 'Retry-After': { description, schema: { type: 'integer', minimum: 1 } } } }
}

function toContent(schema: Json, example: unknown): Json {
  return { 'application/json': { schema, example } }
}

function refTo(name: string): Json {
  return { $ref: toUri(name) }
}

function toUri(name: string): string {
  return `#/components/schemas/${name}`
}

function toParamsName(procedure: Procedure): string {
  return `${procedure.name}.params`
}

function toResultName(procedure: Procedure): string {
  const named = Object.entries(NAMED_RESULTS).find(([, schema]) => schema === procedure.result)
  if (named === undefined) throw new Error(`the result of ${procedure.name} has no name`)
  return named[0]
}

function toComponents(): Json {
  const results = z.registry<{ id: string }>()
  for (const [id, schema] of Object.entries(NAMED_RESULTS)) results.add(schema, { id })
  results.add(errorResult, { id: 'Error' })
  const params = z.registry<{ id: string }>()
  for (const procedure of PROCEDURES) {
    if (!procedure.isBodyIgnored) params.add(procedure.params, { id: toParamsName(procedure) })
  }
  return { ...toSchemas(results, 'output'), ...toSchemas(params, 'input') }
}

function toSchemas(registry: z.core.$ZodRegistry<{ id: string }>, io: 'input' | 'output'): Json {
  const { schemas } = z.toJSONSchema(registry, {
    uri: toUri,
    io,
    // Fields may be added to any answer.
    override: ({ jsonSchema }) => {
      if (jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties
    },
  })
  return Object.fromEntries(
    Object.entries(schemas).map(([id, { $id: _id, $schema: _schema, ...schema }]) => [id, schema]),
  )
}
