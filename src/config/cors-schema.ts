import { isIPv4, isIPv6 } from 'node:net'
import { z } from 'zod'
import { isHostName } from './addresses.ts'
import { fieldName, methodField } from './http-fields.ts'
import { durationField } from './units.ts'

const ORIGIN = /^([a-z][a-z0-9+.-]*):\/\/([^/?#@*\s]+?)(?::(\d{1,5}))?$/
const ORIGIN_HINT =
  'must be an origin such as https://app.example.com or https://*.example.com, without path; "*" for any, "null" for pages without one'
const DEFAULT_PORTS: Readonly<Record<string, string>> = { http: '80', https: '443' }

export const corsSchema = z
  .strictObject({
    origins: z
      .array(originField())
      .min(1)
      .max(256)
      .describe(
        'Origins whose pages may use the route: exact, or with "*." for every name below. "*": any. "null": pages without an origin, such as sandboxed frames.',
      ),
    methods: z
      .array(methodField())
      .min(1)
      .max(64)
      .optional()
      .describe(
        'Methods that pages may use. Left out: those of match.methods, or GET, HEAD, POST, PUT, PATCH, DELETE.',
      ),
    headers: z
      .array(fieldName())
      .max(64)
      .prefault(['*'])
      .describe('Header fields that pages may send. "*": whatever a page asks for.'),
    expose: z
      .array(fieldName())
      .max(64)
      .prefault(['ratelimit', 'ratelimit-policy', 'retry-after', 'x-request-id'])
      .describe('Header fields of answers that pages may read, beside the few that they always may.'),
    credentials: z
      .boolean()
      .default(false)
      .describe('Whether pages may send cookies and the like. Not with "*" or "null" among the origins.'),
    max_age: durationField().prefault('10m').describe('How long a browser may remember a preflight.'),
  })
  .superRefine(({ origins, expose, credentials }, ctx) => {
    if (!credentials) return
    const open = origins.find((origin) => origin === '*' || origin === 'null')
    if (open !== undefined) {
      const message = `must not be true while origins names ${JSON.stringify(open)}: any page could act for a user who is logged in`
      ctx.addIssue({ code: 'custom', path: ['credentials'], message })
    }
    if (expose.includes('*')) {
      const message = 'must name the fields while credentials is true: browsers take "*" for a name then'
      ctx.addIssue({ code: 'custom', path: ['expose'], message })
    }
  })
  .describe(
    'Cross-origin requests of browsers. Preflights are answered by the gateway, without a token, and its fields replace those of the upstream. Left out: the upstream’s own business.',
  )

/** As browsers write it: in lower case, without the port that is the scheme's own. */
function originField() {
  return z.string().transform((text, ctx) => {
    const lower = text.toLowerCase()
    if (lower === '*' || lower === 'null') return lower
    const isPattern = lower.includes('://*.')
    const [, scheme, host = '', port] = ORIGIN.exec(lower.replace('://*.', '://')) ?? []
    if (scheme === undefined || !isOriginHost(host, isPattern) || Number(port ?? 0) > 65_535) {
      ctx.addIssue(ORIGIN_HINT)
      return z.NEVER
    }
    const isUsual = port === undefined || port === DEFAULT_PORTS[scheme]
    return `${scheme}://${isPattern ? '*.' : ''}${host}${isUsual ? '' : `:${port}`}`
  })
}

function isOriginHost(host: string, isPattern: boolean): boolean {
  if (host.startsWith('[') && host.endsWith(']')) return !isPattern && isIPv6(host.slice(1, -1))
  return isIPv4(host) ? !isPattern : isHostName(host)
}
