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

const ONE_PLACE = { error: 'must have exactly one of url, cluster and sentinels' }
const NAME_OF_SENTINELS = { error: 'must have a name beside sentinels, and only there' }

interface Place {
  readonly url?: unknown
  readonly cluster?: unknown
  readonly sentinels?: unknown
  readonly name?: unknown
}

function hasOnePlace({ url, cluster, sentinels }: Place): boolean {
  return [url, cluster, sentinels].filter((way) => way !== undefined).length === 1
}

function hasNameOfSentinels({ sentinels, name }: Place): boolean {
  return (sentinels === undefined) === (name === undefined)
}

/** Where a Redis is. */
const placeFields = {
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
  ca: z
    .string()
    .min(1)
    .optional()
    .describe(
      'PEM file of the authorities that may sign the servers’ certificates, instead of the usual ones.',
    ),
}

/** Of a Redis that is not the store. */
export const redisPlaceSchema = z
  .strictObject(placeFields)
  .refine(hasOnePlace, ONE_PLACE)
  .refine(hasNameOfSentinels, NAME_OF_SENTINELS)

export const redisSchema = z
  .strictObject({
    ...placeFields,
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
  })
  .refine(hasOnePlace, ONE_PLACE)
  .refine(hasNameOfSentinels, NAME_OF_SENTINELS)
