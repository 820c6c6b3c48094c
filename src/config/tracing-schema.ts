import { z } from 'zod'
import { fieldsToSet } from './http-fields.ts'
import { durationField } from './units.ts'

const ENDPOINT_HINT = 'must be a URL such as http://127.0.0.1:4318 or https://collector.internal/v1/traces'
const DEFAULT_PATH = '/v1/traces'

const otlpSchema = z.strictObject({
  endpoint: endpointField().describe(
    'URL of the collector (OTLP over HTTP). /v1/traces is added where it has no path.',
  ),
  headers: fieldsToSet('request')
    .prefault({})
    .refine((headers) => !Object.hasOwn(headers, 'content-type'), {
      error: 'must not name Content-Type: spans are sent as application/json',
    })
    .describe('Header fields by name for every request to the collector, such as its key.'),
  timeout: durationField({ min: 1 })
    .prefault('10s')
    .describe('Longest wait for the collector to take a batch. Requests never wait for it.'),
})

export const tracingSchema = z
  .strictObject({
    create: z
      .boolean()
      .default(true)
      .describe(
        'Whether requests that come without a sound traceparent get one. One that came is passed on as it is in any case, unless otlp is there.',
      ),
    sample_ratio: z
      .number()
      .min(0)
      .max(1)
      .default(1)
      .describe('Share of the traces made here, 0 to 1, that upstreams are asked to record.'),
    otlp: otlpSchema
      .optional()
      .describe(
        'Where spans of sampled traces are sent. With it the upstream gets a traceparent that names a span of the gateway. Left out: no spans.',
      ),
  })
  .prefault({})
  .describe('W3C trace context: traceparent and tracestate.')

/** Takes an http or https URL without query and credentials; gives it whole. */
function endpointField() {
  return z.string().transform((text, ctx) => {
    const problem = findProblem(text)
    if (problem !== undefined) {
      ctx.addIssue(problem)
      return z.NEVER
    }
    const url = new URL(text)
    if (url.pathname === '/') url.pathname = DEFAULT_PATH
    return url.href
  })
}

function findProblem(text: string): string | undefined {
  if (!/^https?:\/\/[^/\\\s]/i.test(text) || !URL.canParse(text)) return ENDPOINT_HINT
  const url = new URL(text)
  if (url.username !== '' || url.password !== '' || text.includes('@'))
    return 'must not hold credentials; set a header instead'
  return /[?#]/.test(text) ? 'must not hold a query or a fragment' : undefined
}
