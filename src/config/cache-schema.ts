import { z } from 'zod'
import { parseTemplate } from '../domain/template.ts'
import { durationField, sizeField } from './units.ts'

const SECONDS_MAX_MS = 365 * 86_400_000

/** Text with places in braces, filled from the request. */
function templateField() {
  return z
    .string()
    .min(1)
    .max(256)
    .superRefine((text, ctx) => {
      const parsed = parseTemplate(text)
      if (parsed.kind === 'problem') ctx.addIssue({ code: 'custom', message: parsed.problem })
      else if (/[\x00-\x1f\x7f*]/.test(text))
        ctx.addIssue({ code: 'custom', message: 'must not hold control characters or "*"' })
    })
}

/** `cache` of a route. */
export const routeCacheSchema = z
  .strictObject({
    ttl: durationField({ min: 1000, max: SECONDS_MAX_MS })
      .optional()
      .describe(
        'How long answers are fresh that do not say it themselves (Cache-Control, Expires). It also permits storing them for callers with credentials. Left out: such answers are not stored.',
      ),
    methods: z
      .array(z.enum(['GET', 'HEAD']))
      .min(1)
      .max(2)
      .prefault(['GET', 'HEAD'])
      .describe('Methods that are answered from the cache. HEAD is answered from what GET has stored.'),
    vary_by: z
      .enum(['key', 'keyspace', 'shared'])
      .default('key')
      .describe(
        'Who shares answers: nobody (each key has its own), the keys of one keyspace, or all callers of the route.',
      ),
    tags: z
      .array(templateField())
      .max(32)
      .prefault([])
      .describe(
        'Tags that answers can be purged by, filled from the request: {path}, {path.N} (Nth segment, from 1), {host}, {header.NAME}, {query.NAME}, {key_id}, {keyspace_id}. A tag with an empty place is left out.',
      ),
    key: templateField()
      .optional()
      .describe(
        'Name that answers can be purged by, filled like a tag: "user:profile:{path.2}". What is the same answer is still told by the URL.',
      ),
    max_entry: sizeField({ min: 1, max: 64 * 1024 ** 2 })
      .prefault('1MiB')
      .describe('Largest body that is stored; larger ones pass.'),
    stale_while_revalidate: durationField({ max: SECONDS_MAX_MS })
      .prefault(0)
      .describe(
        'How long after its end an answer is still given while a new one is fetched, where the answer itself does not say (RFC 5861).',
      ),
    stale_if_error: durationField({ max: SECONDS_MAX_MS })
      .prefault(0)
      .describe(
        'How long after its end an answer is still given while the upstream fails, where the answer itself does not say (RFC 5861).',
      ),
    cost: z
      .int()
      .min(0)
      .max(2 ** 31 - 1)
      .optional()
      .describe(
        'Tokens that an answer from the cache takes, at most the cost of the route. 0: free. Left out: the same.',
      ),
  })
  .describe('Caching of answers as RFC 9111 says. Left out: none are cached.')

/** `gateway.cache`. */
export const gatewayCacheSchema = z
  .strictObject({
    memory: sizeField({ min: 1024 ** 2, max: 64 * 1024 ** 3 })
      .prefault('64MiB')
      .describe('Memory for cached answers of all routes, shared out evenly to the data-plane threads.'),
    redis_memory: sizeField({ max: 64 * 1024 ** 3 })
      .prefault('64MiB')
      .describe(
        'With a Redis store: bytes of answers that this node keeps there for the other nodes. 0: none.',
      ),
  })
  .prefault({})
  .describe('The response cache, for routes with cache.')
