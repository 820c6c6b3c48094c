import { z } from 'zod'
import { cidrField, dnsServerField, listenField } from './addresses.ts'
import { gatewayCacheSchema } from './cache-schema.ts'
import { redisPlaceSchema, redisSchema } from './redis-schema.ts'
import { ksidField, routeSchema } from './route-schema.ts'
import { gatewayTlsSchema } from './tls-schema.ts'
import { tracingSchema } from './tracing-schema.ts'
import { durationField, sizeField } from './units.ts'
import { NAME, NAME_HINT, upstreamSchema } from './upstream-schema.ts'

/*
 * The one truth about the configuration file: names, types, ranges, defaults, and the words of the
 * manual. Output is plain data that crosses threads: durations are milliseconds, sizes are bytes.
 * Messages are written to follow the name of the setting: "must be …".
 */

const INT32_MAX = 2 ** 31 - 1

const gatewaySchema = z.strictObject({
  listen: listenField()
    .prefault('0.0.0.0:8080')
    .describe('Address that clients talk to: HOST:PORT. Port 0 takes any free one.'),
  workers: z
    .union([z.literal('auto'), z.int().min(1).max(256)], {
      error: 'must be auto or a whole number from 1 to 256',
    })
    .default('auto')
    .describe('Number of data-plane threads. auto: one per core.'),
  engine: z
    .enum(['auto', 'node', 'raw'])
    .default('auto')
    .describe(
      'Implementation of HTTP/1.1. raw: our own and strict, the fastest; node: node:http and undici. auto: raw.',
    ),
  trusted_proxies: z
    .array(cidrField())
    .max(1024)
    .prefault([])
    .describe(
      'Address ranges (CIDR) of proxies in front whose X-Forwarded-* and Forwarded fields are believed.',
    ),
  tls: gatewayTlsSchema.optional().describe('TLS towards clients. Left out: plain HTTP.'),
  http2: z
    .boolean()
    .default(true)
    .describe('Whether clients may choose HTTP/2. Only with TLS; without it there is HTTP/1.1 alone.'),
  max_header_bytes: sizeField({ min: 1024, max: 1024 ** 2 })
    .prefault('16KiB')
    .describe('Largest header section of a request; a larger one gets 431.'),
  max_headers: z
    .int()
    .min(1)
    .max(10_000)
    .default(100)
    .describe('Most header fields of a request; more get 431.'),
  max_target_bytes: sizeField({ min: 64, max: 1024 ** 2 })
    .prefault('8KiB')
    .describe('Longest request target (path and query); a longer one gets 414.'),
  timeouts: z
    .strictObject({
      headers: durationField({ min: 1 })
        .prefault('10s')
        .describe('Longest time for the whole head of a request to arrive.'),
      idle: durationField({ min: 1 })
        .prefault('60s')
        .describe('Longest wait for the next request on an open connection.'),
      body: durationField()
        .prefault('30s')
        .describe('Longest silence in the middle of a request body. 0 allows any.'),
    })
    .prefault({})
    .describe('Timeouts towards clients.'),
  min_body_rate: sizeField({ max: 1024 ** 3 })
    .prefault('1KiB')
    .describe(
      'Least average of a request body, per second, from its first 10 s on; a slower one gets 408. 0 allows any.',
    ),
  shutdown_timeout: durationField()
    .prefault('10s')
    .describe('Longest wait for running requests when the process is told to stop.'),
  shutdown_delay: durationField()
    .prefault(0)
    .describe(
      'Time between readiness failing and the first refused connection, for load balancers to notice. Answers in it say Connection: close.',
    ),
  dns: z
    .strictObject({
      servers: z
        .array(dnsServerField())
        .max(16)
        .prefault([])
        .describe(
          'DNS servers for the names of targets: ADDRESS or ADDRESS:PORT. None: those of the system.',
        ),
    })
    .prefault({})
    .describe('How the names of targets are resolved.'),
  share_port: z
    .boolean()
    .default(false)
    .describe('Whether other processes may listen on the same port. Without it a taken port is an error.'),
  watch: z
    .boolean()
    .default(false)
    .describe(
      'Whether the configuration is reloaded when its file changes, or a file that it names. SIGHUP and config.reload do so in any case.',
    ),
  access_log: z
    .strictObject({
      output: z
        .string()
        .regex(/^(off|stdout)$|[/.]/, {
          error: 'must be off, stdout, or the path of a file such as ./access.log',
        })
        .default('off')
        .describe('off, stdout, or the path of a file.'),
    })
    .prefault({})
    .describe('One JSON line per request.'),
  tracing: tracingSchema,
  cache: gatewayCacheSchema,
})

const NAMESPACE_HINT = 'must be a prefix of keys such as "user:", without "*", or "*" alone for every key'

const scriptSchema = z.strictObject({
  limit: z
    .int()
    .min(1)
    .max(100_000)
    .default(60)
    .describe('Most calls of one service key in any 60 s, over all nodes; more get 429.'),
  namespaces: z
    .array(
      z
        .string()
        .max(1024)
        .regex(/^(?:\*|[^*\x00-\x1f\x7f-\x9f]+)$/, { error: NAMESPACE_HINT }),
    )
    .max(1000)
    .default(['*'])
    .describe(
      'What the keys that scripts name may start with; "*": every key. The gateway’s own keys are refused always.',
    ),
  redis: redisPlaceSchema
    .optional()
    .describe('Where the keys of the script API are kept. Left out: in the store.'),
})

const adminSchema = z.strictObject({
  listen: listenField()
    .prefault('127.0.0.1:7131')
    .describe('Address for management, health and metrics: HOST:PORT. Keep it away from clients.'),
  root_token: z
    .string()
    .regex(/^([\x21-\x7e]{16,256})?$/, {
      error: 'must be 16 to 256 visible ASCII characters, or empty for none',
    })
    .transform((token) => (token === '' ? undefined : token))
    .optional()
    .describe(
      'Token that may do everything, for the first steps. Empty: none. Take it from the environment or a file.',
    ),
  require_expiration: z.boolean().default(false).describe('Whether every new key must have an expiry.'),
  script: scriptSchema.prefault({}).describe('The script API: calls by which scripts drop what is cached.'),
})

const storeSchema = z.strictObject({
  path: z
    .string()
    .min(1)
    .default('./data')
    .describe('Folder of the embedded store. Made at the first start.'),
  cache_keys: z
    .int()
    .min(1)
    .max(100_000_000)
    .default(100_000)
    .describe('Keys that each data-plane thread remembers.'),
  cache_unknown: z
    .int()
    .min(1)
    .max(100_000_000)
    .default(10_000)
    .describe('Unknown tokens that each data-plane thread remembers.'),
  keep_expired: durationField({ max: Number.MAX_SAFE_INTEGER })
    .prefault('30d')
    .describe('How long an expired key is kept, and answers "expired", before it is swept away.'),
  redis: redisSchema
    .optional()
    .describe(
      'A store that many nodes share, instead of the embedded one: one server, a cluster, or Sentinels.',
    ),
})

const ratelimitSchema = z
  .strictObject({
    limit: z.int().min(0).max(INT32_MAX).describe('Most tokens that a bucket holds. 0: no limit.'),
    refill_rate: z
      .int()
      .min(0)
      .max(INT32_MAX)
      .optional()
      .describe('Tokens added at each refill. 0, or left out with the interval: the bucket never refills.'),
    refill_interval: durationField({ max: Number.MAX_SAFE_INTEGER })
      .optional()
      .describe('Time between refills. 0, or left out with the rate: the bucket never refills.'),
  })
  .refine((limit) => (limit.refill_rate === undefined) === (limit.refill_interval === undefined), {
    error: 'must have both of refill_rate and refill_interval, or neither for a bucket that never refills',
  })
  .transform(({ limit, refill_rate = 0, refill_interval = 0 }) =>
    limit === 0 ? undefined : { limit, refill_rate, refill_interval },
  )

const keyspaceSchema = z
  .strictObject({
    ksid: ksidField().describe('Id of the keyspace: ks_ and 1 to 64 letters, digits, "_" or "-".'),
    name: z
      .string()
      .regex(/^[^\x00-\x1f\x7f-\x9f]{1,256}$/, {
        error: 'must be 1 to 256 characters without control characters',
      })
      .describe('Unique name, for people.'),
    keys_prefix: z
      .string()
      .regex(/^[A-Za-z0-9_-]{1,16}$/, { error: 'must be 1 to 16 letters, digits, "_" or "-"' })
      .describe('Unique prefix of every token of the keyspace.'),
    ratelimit: ratelimitSchema
      .optional()
      .describe('Limit of each key that has none of its own. Left out: no limit.'),
    leases: z
      .enum(['on', 'off'])
      .default('on')
      .describe(
        'Whether nodes take tokens of busy keys in advance from a Redis store. off: what is left of a key is exact at any moment, at one call per check.',
      ),
    require_expiration: z
      .boolean()
      .default(false)
      .describe('Whether every new key of this keyspace must have an expiry.'),
  })
  .describe('A keyspace that is created or updated at start and on reload.')

export const configSchema = z
  .strictObject({
    gateway: gatewaySchema.prefault({}).describe('The listener that clients talk to.'),
    admin: adminSchema.prefault({}).describe('The listener for operators: management RPC, health, metrics.'),
    store: storeSchema.prefault({}).describe('Where keys and buckets are kept.'),
    upstreams: z
      .record(z.string().regex(NAME, { error: NAME_HINT }), upstreamSchema)
      .prefault({})
      .describe('Sets of targets by name; routes refer to them.'),
    keyspaces: z
      .array(keyspaceSchema)
      .max(10_000)
      .prefault([])
      .describe('Declared keyspaces. Others are made over the management RPC.'),
    routes: z
      .array(routeSchema)
      .max(10_000)
      .prefault([])
      .transform((routes) =>
        routes.map((route, index) => ({ ...route, name: route.name ?? `route-${index + 1}` })),
      )
      .describe('Rules for requests. Without any, every request gets 404.'),
  })
  .describe(
    'Configuration of Dripgate. Values may hold ${NAME}, ${NAME:-default} and ${file:PATH}; $$ is one $.',
  )

/** The configuration with all defaults applied: plain data, safe to clone into threads. */
export type Config = z.output<typeof configSchema>
