import { z } from 'zod'
import { targetField } from './addresses.ts'
import { durationField } from './units.ts'

/** Names that end up in metric labels and log lines: upstreams and routes. */
export const NAME = /^[A-Za-z0-9_.-]{1,64}$/
export const NAME_HINT = 'must be 1 to 64 letters, digits, "_", "." or "-"'

const connectTimeout = durationField({ min: 1 })
const CONNECT_TEXT = 'Longest time to open a connection to a target, TLS included.'
const RESPONSE_TEXT = 'Longest wait for the head of the answer once the request was sent. 0 waits for ever.'
const IDLE_TEXT =
  'Longest silence in a body or an upgraded connection, in either direction. 0 allows any silence (long polling, server-sent events).'

/** The timeouts of a route: what is left out is the upstream's. */
export const routeTimeoutsSchema = z.strictObject({
  connect: connectTimeout.optional().describe(CONNECT_TEXT),
  response: durationField().optional().describe(RESPONSE_TEXT),
  idle: durationField().optional().describe(IDLE_TEXT),
})

const upstreamTimeoutsSchema = z.strictObject({
  connect: connectTimeout.prefault('5s').describe(CONNECT_TEXT),
  response: durationField().prefault('15s').describe(RESPONSE_TEXT),
  idle: durationField().prefault('60s').describe(IDLE_TEXT),
})

const percentField = () => z.int().min(0).max(100)

const healthCheckSchema = z.strictObject({
  path: z
    .string()
    .regex(/^\/[\x21\x22\x24-\x7e]*$/, {
      error: 'must be a path such as /healthz, in visible ASCII without #',
    })
    .max(8192)
    .default('/')
    .describe('What is asked for, by GET.'),
  interval: durationField({ min: 10 }).prefault('5s').describe('Time between two checks of an address.'),
  timeout: durationField({ min: 10 })
    .prefault('2s')
    .describe('Longest wait for the answer; a later one is a failure.'),
  healthy_after: z
    .int()
    .min(1)
    .max(100)
    .default(1)
    .describe('Good answers in a row after which a target that is down is up again.'),
  unhealthy_after: z
    .int()
    .min(1)
    .max(100)
    .default(2)
    .describe('Failures in a row after which a target is down; the very first check decides at once.'),
  host: z
    .string()
    .regex(/^[A-Za-z0-9._:[\]-]{1,255}$/, { error: 'must be a host name, with a port if need be' })
    .optional()
    .describe('Value of the Host field. Left out: the host of the target.'),
  status: z
    .array(
      z.union([z.int().min(200).max(599), z.enum(['2xx', '3xx', '4xx', '5xx'])], {
        error: 'must be a status from 200 to 599, or 2xx, 3xx, 4xx or 5xx',
      }),
    )
    .min(1)
    .max(100)
    .prefault(['2xx', '3xx'])
    .describe('Statuses of good answers: numbers, or whole classes such as 2xx.'),
})

const ejectionSchema = z.strictObject({
  failures: z
    .int()
    .min(0)
    .max(1_000_000)
    .default(5)
    .describe(
      'Failures in a row (no connection, reset, timeout, invalid answer) after which a target is ejected. 0: never.',
    ),
  backoff: durationField({ min: 1 })
    .prefault('5s')
    .describe('For how long, the first time. Each further time in a row doubles it.'),
  backoff_max: durationField({ min: 1 }).prefault('5m').describe('The longest time.'),
  max_percent: percentField()
    .default(50)
    .describe('Most of the targets that may be ejected at the same time, in percent. Never the last one.'),
  count_5xx: z
    .boolean()
    .default(false)
    .describe('Whether answers with a status of 500 or more are failures.'),
})

const retriesSchema = z.strictObject({
  max: z
    .int()
    .min(0)
    .max(10)
    .default(2)
    .describe(
      'How often a GET, HEAD or OPTIONS without body is sent again after it was sent and no answer came. Requests of which nothing was sent go to the next target in any case.',
    ),
  budget_percent: percentField()
    .default(20)
    .describe(
      'Most of such repeats, in percent of the requests of the last 10 to 20 s, per data-plane thread.',
    ),
  budget_min: z
    .int()
    .min(0)
    .max(1_000_000)
    .default(10)
    .describe('As many repeats are allowed in that time in any case, per data-plane thread.'),
})

const circuitSchema = z.strictObject({
  failures: z
    .int()
    .min(0)
    .max(1_000_000)
    .default(200)
    .describe(
      'Requests that failed on all attempts, within 10 s on one data-plane thread, after which the circuit may open. 0: never.',
    ),
  percent: percentField()
    .default(75)
    .describe('It opens if they are this share of all requests of that time.'),
  open_for: durationField({ min: 1 })
    .prefault('5s')
    .describe('How long it stays open, until one request at a time shows whether the upstream is back.'),
})

export const upstreamSchema = z
  .strictObject({
    targets: z
      .array(targetField())
      .min(1)
      .max(256)
      .describe('Origins that share the load, http or https, without path: ["http://127.0.0.1:9000"].'),
    protocol: z
      .enum(['http1', 'http2'])
      .default('http1')
      .describe(
        'What the targets are spoken to with. http2: by ALPN (h2) to https targets, with prior knowledge (h2c) to http targets; gRPC needs it.',
      ),
    timeouts: upstreamTimeoutsSchema
      .prefault({})
      .describe('Timeouts towards the targets. Those of a route win.'),
    balance: z
      .enum(['round_robin', 'least_requests'])
      .default('round_robin')
      .describe('How a target is picked: in turns, or the one with the fewest requests in flight.'),
    health_check: healthCheckSchema
      .optional()
      .describe('Active checks: each address of a target is asked regularly. Left out: none.'),
    ejection: ejectionSchema
      .prefault({})
      .describe('When a target whose requests fail is left out for a while.'),
    retries: retriesSchema.prefault({}).describe('How often safe requests that failed are sent again.'),
    circuit: circuitSchema
      .prefault({})
      .describe('When an upstream that fails as a whole is spared: 503 at once instead of further attempts.'),
    max_connections: z
      .int()
      .min(1)
      .max(65_536)
      .default(256)
      .describe(
        'Most connections to one target, per data-plane thread; with http2, most requests in flight.',
      ),
    tls: z
      .strictObject({
        ca: z
          .string()
          .min(1)
          .optional()
          .describe(
            'PEM file of the authorities that may sign the targets’ certificates, instead of the usual ones.',
          ),
        cert: z
          .string()
          .min(1)
          .optional()
          .describe('PEM file of the own certificate chain, for targets that ask for one.'),
        key: z.string().min(1).optional().describe('PEM file of its private key, without passphrase.'),
        servername: z
          .string()
          .min(1)
          .max(253)
          .optional()
          .describe('Name to ask for (SNI) and to verify, instead of the host of the target.'),
      })
      .refine(({ cert, key }) => (cert === undefined) === (key === undefined), {
        error: 'must have both of cert and key, or neither',
      })
      .prefault({})
      .describe('TLS towards https targets. Certificates are always verified.'),
  })
  .describe('A named set of targets.')
