import { z } from 'zod'
import { durationField } from './units.ts'

const URL_HINT = 'must be a URL such as redis://:PASSWORD@HOST:6379/0, or rediss:// for TLS'

function redisUrlField() {
  return z.string().refine(isRedisUrl, { error: URL_HINT })
}

function isRedisUrl(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, hostname, pathname, search, hash } = new URL(text)
  return (
    (protocol === 'redis:' || protocol === 'rediss:') &&
    hostname !== '' &&
    /^(\/\d{0,4})?$/.test(pathname) &&
    search === '' &&
    hash === ''
  )
}

/** Where Redis is. Exactly one of url, cluster and sentinels. */
export const redisSchema = z
  .strictObject({
    url: redisUrlField()
      .optional()
      .describe('One server: redis://USER:PASSWORD@HOST:PORT/DB; rediss:// for TLS.'),
    cluster: z
      .array(redisUrlField())
      .min(1)
      .max(64)
      .optional()
      .describe(
        'Some nodes of a Redis Cluster, from which the others are found. User and password are those of the first.',
      ),
    sentinels: z
      .array(redisUrlField())
      .min(1)
      .max(64)
      .optional()
      .describe('Sentinels that know the master. User, password and database are those of the first.'),
    name: z.string().min(1).max(256).optional().describe('Name of the master that the Sentinels watch.'),
    prefix: z
      .string()
      .regex(/^[A-Za-z0-9:_.-]{1,64}$/, { error: 'must be 1 to 64 letters, digits, ":", "_", "." or "-"' })
      .default('dripgate:')
      .describe(
        'What all keys and channels of the gateway start with. Nodes with the same prefix share their limits.',
      ),
    timeout: durationField({ min: 1, max: 10_000 })
      .prefault('25ms')
      .describe('Longest wait for Redis in a check; then on_store_error of the route applies.'),
    ca: z
      .string()
      .min(1)
      .optional()
      .describe(
        'PEM file of the authorities that may sign the servers’ certificates, instead of the usual ones.',
      ),
  })
  .refine(
    ({ url, cluster, sentinels }) =>
      [url, cluster, sentinels].filter((way) => way !== undefined).length === 1,
    {
      error: 'must have exactly one of url, cluster and sentinels',
    },
  )
  .refine(({ sentinels, name }) => (sentinels === undefined) === (name === undefined), {
    error: 'must have a name beside sentinels, and only there',
  })
