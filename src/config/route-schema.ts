import { z } from 'zod'
import { cidrField } from './addresses.ts'
import { routeCacheSchema } from './cache-schema.ts'
import { corsSchema } from './cors-schema.ts'
import {
  type Direction,
  fieldName,
  fieldsToMatch,
  fieldsToSet,
  hostPatternField,
  methodField,
  pathField,
  removableFieldName,
} from './http-fields.ts'
import { sizeField } from './units.ts'
import { NAME, NAME_HINT, routeTimeoutsSchema } from './upstream-schema.ts'

const KSID = /^ks_[A-Za-z0-9_-]{1,64}$/

/** The id of a keyspace, chosen by hand (contract section 5, point 4). */
export function ksidField() {
  return z.string().regex(KSID, { error: 'must be ks_ and 1 to 64 letters, digits, "_" or "-"' })
}

const matchSchema = z.strictObject({
  hosts: z
    .array(hostPatternField())
    .min(1)
    .max(256)
    .transform(toUnique)
    .optional()
    .describe('Host names, exact or with a leading "*." for every name below. Left out: any host.'),
  path: pathField()
    .prefault('/')
    .describe(
      'The path and everything below it, on segment boundaries: /orders matches /orders and /orders/1, not /ordersx.',
    ),
  methods: z
    .array(methodField())
    .min(1)
    .max(64)
    .transform(toUnique)
    .optional()
    .describe('HTTP methods. Left out: all.'),
  headers: fieldsToMatch()
    .optional()
    .describe(
      'Header fields that must be there with exactly these values, or { present: true } for any value, { present: false } for none.',
    ),
})

const tokenSchema = z.strictObject({
  headers: z
    .array(fieldName())
    .max(16)
    .transform(toUnique)
    .prefault(['authorization', 'x-api-key'])
    .describe(
      'Header fields to read the token from; the first one wins. "authorization" takes Bearer tokens, "basic" the password (or the lone user name) of Basic credentials.',
    ),
  query: z
    .string()
    .regex(/^[A-Za-z0-9._~-]{1,64}$/, { error: 'must be 1 to 64 letters, digits, ".", "_", "~" or "-"' })
    .optional()
    .describe('Name of a query parameter to read the token from as well.'),
  cookie: z
    .string()
    .regex(/^[A-Za-z0-9._~-]{1,64}$/, { error: 'must be 1 to 64 letters, digits, ".", "_", "~" or "-"' })
    .optional()
    .describe('Name of a cookie to read the token from as well.'),
})

function changesSchema(direction: Direction) {
  return z
    .strictObject({
      set: fieldsToSet(direction)
        .prefault({})
        .describe(`Header fields to set on the ${direction}, whatever was there before.`),
      add: fieldsToSet(direction)
        .prefault({})
        .describe(`Header fields to add to the ${direction}, beside those of the same name.`),
      remove: z
        .array(removableFieldName(direction))
        .max(64)
        .transform(toUnique)
        .prefault([])
        .describe(`Header fields to remove from the ${direction}.`),
    })
    .prefault({})
    .describe(`Changes to the header fields of the ${direction}.`)
}

/** A route as written; config.routes holds it with its name and its one list of keyspaces. */
export const routeSchema = z
  .strictObject({
    name: z
      .string()
      .regex(NAME, { error: NAME_HINT })
      .refine((name) => name !== 'none', {
        error: 'must not be "none": metrics use it where no route matched',
      })
      .optional()
      .describe('Unique name, used in metrics and logs. Left out: route-N, counted from 1.'),
    match: matchSchema.prefault({}).describe('Which requests the route takes. Left out: all.'),
    keyspace: ksidField().optional().describe('Keyspace whose keys are good here. None: the route is open.'),
    keyspaces: z
      .array(ksidField())
      .max(64)
      .optional()
      .describe('The same for several keyspaces. Give either this or keyspace.'),
    upstream: z.string().describe('Name of the upstream that gets the requests.'),
    strip_path: z
      .boolean()
      .default(false)
      .describe('Whether the matched path is cut off before the request is forwarded.'),
    rewrite: pathField()
      .optional()
      .describe(
        'Path to forward instead of the matched one; what follows it stays: with match.path /orders, /v2 makes /orders/1?a=b into /v2/1?a=b.',
      ),
    allow_ips: z
      .array(cidrField())
      .min(1)
      .max(1024)
      .optional()
      .describe(
        'Address ranges (CIDR) that clients may come from; others get 403. Left out: any. Behind proxies see gateway.trusted_proxies.',
      ),
    deny_ips: z
      .array(cidrField())
      .max(1024)
      .prefault([])
      .describe('Address ranges (CIDR) whose clients get 403, also where allow_ips has them.'),
    cors: corsSchema.optional(),
    token: tokenSchema.prefault({}).describe('Where the token is read from.'),
    forward_credentials: z
      .boolean()
      .default(false)
      .describe('Whether the fields that tokens are read from are forwarded too.'),
    host_header: z
      .enum(['preserve', 'upstream'])
      .default('preserve')
      .describe('Which Host the upstream sees: the client’s, or that of the target.'),
    cost: z
      .int()
      .min(0)
      .max(2 ** 31 - 1)
      .default(1)
      .describe('Tokens that one request takes from the bucket of its key.'),
    timeouts: routeTimeoutsSchema
      .prefault({})
      .describe('Timeouts of this route; they win over those of the upstream.'),
    max_body: z
      .union([z.literal('unlimited').transform(() => null), sizeField()], {
        error: 'must be a size such as 64KiB or 10MiB, a whole number of bytes, or unlimited',
      })
      .prefault('1MiB')
      .describe('Largest request body; a larger one gets 413. 0 allows none, unlimited any.'),
    on_store_error: z
      .enum(['deny', 'allow', 'local'])
      .default('deny')
      .describe(
        'While the store cannot be reached: deny (503), allow, or limit by this node’s own buckets (local). With the embedded store there are no others, so local answers like deny.',
      ),
    headers: z
      .strictObject({ request: changesSchema('request'), response: changesSchema('response') })
      .prefault({})
      .describe('Header fields to set, add or remove.'),
    ratelimit_headers: z
      .array(z.enum(['ietf', 'legacy']))
      .max(2)
      .transform(toUnique)
      .prefault(['ietf'])
      .describe(
        'Fields that tell clients their limit: ietf (RateLimit, RateLimit-Policy), legacy (X-RateLimit-*). [] sends none.',
      ),
    cache: routeCacheSchema.optional(),
  })
  .refine((route) => !isRecord(route) || route.keyspace === undefined || route.keyspaces === undefined, {
    error: 'must not stand beside keyspaces: give one of the two',
    path: ['keyspace'],
    // Also while other settings of the route are wrong: all problems are reported at once.
    when: (payload) =>
      payload.issues.every((issue) => issue.path?.length !== 0 || issue.code !== 'invalid_type'),
  })
  .superRefine((route, ctx) => {
    for (const issue of findContradictions(route)) ctx.addIssue({ code: 'custom', ...issue })
  })
  .refine((route) => route.cache?.cost === undefined || route.cache.cost <= route.cost, {
    error: 'must be at most the cost of the route',
    path: ['cache', 'cost'],
  })
  .transform(({ keyspace, keyspaces, ...route }) => ({
    ...route,
    /** Keys of these are good here; an empty list makes the route open. */
    keyspaces: toUnique(keyspaces ?? (keyspace === undefined ? [] : [keyspace])),
  }))
  .describe('A rule that says which requests go to which upstream, and on what conditions.')

/** What two settings of one route say against each other. */
function findContradictions(route: {
  readonly strip_path: boolean
  readonly rewrite?: string | undefined
  readonly cors?: object | undefined
  readonly headers: { readonly response: { readonly set: object; readonly add: object } }
}) {
  const issues: { path: string[]; message: string }[] = []
  if (route.strip_path && route.rewrite !== undefined) {
    issues.push({
      path: ['strip_path'],
      message: 'must not stand beside rewrite, which replaces the matched path',
    })
  }
  const { set, add } = route.headers.response
  for (const [kind, fields] of Object.entries({ set, add })) {
    const name = Object.keys(fields).find((field) => field.startsWith('access-control-'))
    if (route.cors === undefined || name === undefined) continue
    const message = 'must not be written by hand where cors writes it'
    issues.push({ path: ['headers', 'response', kind, name], message })
  }
  return issues
}

function toUnique<T>(list: readonly T[]): T[] {
  return [...new Set(list)]
}

function isRecord(value: unknown): boolean {
  return typeof value === 'object' && value !== null
}
