import { z } from 'zod'
import {
  explainKeyFault,
  getKeys,
  type Invalidation,
  invalidate,
  type ListOutcome,
  removeKeys,
  type ScriptKeys,
  setKeys,
} from '../app/script-keys.ts'
import { RpcError } from '../domain/errors.ts'
import { parseExactly } from './exact-json.ts'
import { isTooDeep } from './request-body.ts'

/** The calls of the script API (contract section 6). */
export type ScriptCallName = 'invalidate-cache' | 'remove-redis-keys' | 'get-redis-keys' | 'set-redis-keys'

export interface ScriptCall {
  readonly name: ScriptCallName
  readonly aliases: readonly string[]
  readonly summary: string
  readonly params: z.ZodType
  readonly result: z.ZodType
  readonly example: { readonly params: unknown; readonly result: unknown }
  /** Fails with `invalid_payload`. */
  validate(body: object): ValidScriptCall
}

export interface ValidScriptCall {
  readonly keys: readonly string[]
  run(deps: ScriptKeys): Promise<ScriptResult>
}

export interface ScriptResult {
  readonly status: 200 | 202 | 502
  readonly body: object
  /** Of the keys, for the metrics. */
  readonly done: number
  readonly missing: number
  readonly failed: number
  /** For the log. */
  readonly cause?: unknown
}

const KEYS_MAX = 10_000
const TTL_SECONDS_MAX = 2 ** 31 - 1
const DETAILS_MAX = 20

const KEYS_HINT = 'must be a string or a list of strings'
const TTL_HINT = `must be a whole number of seconds from 1 to ${TTL_SECONDS_MAX}`

const keyText = z.string('must be a string').superRefine((key, context) => {
  const message = explainKeyFault(key)
  if (message !== undefined) context.addIssue({ code: 'custom', message })
})

/** The number of items is looked at before the items are. */
function listOf<T extends z.ZodType>(item: T, hint: string) {
  const message = `must have at most ${KEYS_MAX} items; split it into several calls`
  return z.array(z.unknown(), hint).max(KEYS_MAX, message).pipe(z.array(item))
}

const keyList = z
  .preprocess((keys) => (typeof keys === 'string' ? [keys] : keys), listOf(keyText, KEYS_HINT))
  .meta({
    description: `One key or up to ${KEYS_MAX}; each has 1 to 1024 bytes, no control characters and no "*".`,
    anyOf: [{ type: 'string' }, { type: 'array', items: { type: 'string' }, maxItems: KEYS_MAX }],
  })

const entry = z
  .object(
    {
      key: keyText,
      value: z
        .unknown()
        .refine((value) => value !== undefined, 'must be given')
        .refine((value) => typeof value !== 'string' || value.isWellFormed(), 'must be well-formed Unicode')
        .describe('A string is stored as it is, anything else as JSON text.'),
      ttl: z
        .int(TTL_HINT)
        .min(1, TTL_HINT)
        .max(TTL_SECONDS_MAX, TTL_HINT)
        .nullish()
        .describe('Seconds; absent or null: for ever.'),
    },
    'must be an object',
  )
  .transform(({ key, value, ttl }) => ({
    key,
    value: typeof value === 'string' ? value : JSON.stringify(value),
    ttlMs: ttl == null ? undefined : ttl * 1000,
  }))

const keyParams = z.object({ key: keyText.describe('Plain, typed (`tag:…`, `url:…`, …) or `all:`.') })
const keysParams = z.object({ keys: keyList })
const readParams = keysParams.extend({
  json: z.boolean('must be true or false').nullish().describe('Whether to parse values that are JSON.'),
})
const entriesParams = z.object({ items: listOf(entry, 'must be a list') })

const count = z.int().min(0)
const succeeded = z.object({ success: z.literal(true), statusCode: z.literal(200) })

const invalidateCache: ScriptCall = {
  name: 'invalidate-cache',
  aliases: [],
  summary: 'Drop what is cached under a key, on every node. 202 where a node has not answered in time.',
  params: keyParams,
  result: z.object({
    status: z.enum(['success', 'pending']),
    deleted: count.describe('Entries of the cache database.'),
    acknowledged: count.describe('Nodes.'),
    pending: count.optional().describe('Nodes.'),
  }),
  example: {
    params: { key: 'user:profile:12345' },
    result: { status: 'success', deleted: 1, acknowledged: 1 },
  },
  validate(body) {
    const { key } = parse(keyParams, body)
    return { keys: [key], run: async (deps) => toInvalidated(await invalidate(deps, key), key) }
  },
}

const removeRedisKeys: ScriptCall = {
  name: 'remove-redis-keys',
  aliases: ['removeRedisKey', 'removeRedisKeys'],
  summary: 'Remove keys from the cache database. What is not there is skipped.',
  params: keysParams,
  result: succeeded.extend({ data: z.literal(true), requested: count, deleted: count, skipped: count }),
  example: {
    params: { keys: ['a', 'b'] },
    result: { success: true, statusCode: 200, data: true, requested: 2, deleted: 1, skipped: 1 },
  },
  validate(body) {
    const { keys } = parse(keysParams, body)
    return {
      keys,
      async run(deps) {
        const outcome = await removeKeys(deps, keys)
        const { requested, done: deleted } = outcome
        return toResult(outcome, { data: true, requested, deleted, skipped: countMissing(outcome) })
      },
    }
  },
}

const getRedisKeys: ScriptCall = {
  name: 'get-redis-keys',
  aliases: ['getRedisKey', 'getRedisKeys'],
  summary: 'Read keys from the cache database; null for what is not there.',
  params: readParams,
  result: succeeded.extend({ data: z.record(z.string(), z.unknown()) }),
  example: {
    params: { keys: ['a', 'b'] },
    result: { success: true, statusCode: 200, data: { a: 'one', b: null } },
  },
  validate(body) {
    const { keys, json } = parse(readParams, body)
    return {
      keys,
      async run(deps) {
        const outcome = await getKeys(deps, keys)
        if (outcome.isTooLarge) {
          throw new RpcError('values_too_large', {
            details: ['an answer holds at most 16 MiB of values; ask for fewer keys at once'],
          })
        }
        const lost = new Set(outcome.failed)
        const read = outcome.keys.filter((key) => !lost.has(key))
        const data = Object.fromEntries(
          read.map((key) => [key, toValue(outcome.values.get(key), json === true)]),
        )
        return toResult(outcome, { data })
      },
    }
  },
}

const setRedisKeys: ScriptCall = {
  name: 'set-redis-keys',
  aliases: ['setRedisKey', 'setRedisKeys'],
  summary: 'Set one key, or those of a list, in the cache database.',
  params: z.union([entry, entriesParams]),
  result: succeeded.extend({ data: z.literal(true), set: count }),
  example: {
    params: { items: [{ key: 'a', value: 'one', ttl: 60 }] },
    result: { success: true, statusCode: 200, data: true, set: 1 },
  },
  validate(body) {
    if ('items' in body && 'key' in body) {
      throw new RpcError('invalid_payload', { details: ['must have either key and value, or items'] })
    }
    const entries = 'items' in body ? parse(entriesParams, body).items : [parse(entry, body)]
    return {
      keys: entries.map(({ key }) => key),
      async run(deps) {
        const outcome = await setKeys(deps, entries)
        return toResult(outcome, { data: true, set: outcome.done })
      },
    }
  },
}

export const SCRIPT_CALLS: readonly ScriptCall[] = [
  invalidateCache,
  removeRedisKeys,
  getRedisKeys,
  setRedisKeys,
]

export const SCRIPT_PATH_PREFIX = '/script/'

/** By path; a `Map`, because the path is the client's word. */
export const SCRIPT_CALLS_BY_PATH: ReadonlyMap<string, ScriptCall> = new Map(
  SCRIPT_CALLS.flatMap((call) =>
    [call.name, ...call.aliases].map((name) => [SCRIPT_PATH_PREFIX + name, call] as const),
  ),
)

function parse<T extends z.ZodType>(schema: T, body: object): z.output<T> {
  const parsed = schema.safeParse(body)
  if (parsed.success) return parsed.data
  const { issues } = parsed.error
  const positions = issues.flatMap(({ path }) => path.find((segment) => typeof segment === 'number') ?? [])
  throw new RpcError('invalid_payload', {
    invalidPositions: [...new Set(positions)],
    details: issues.slice(0, DETAILS_MAX).map(({ path, message }) => `${path.join('.')} ${message}`),
  })
}

function countMissing({ requested, done, failed }: ListOutcome): number {
  return requested - done - failed.length
}

/** 502 where the cache database failed: says what was done and what was not. */
function toResult(outcome: ListOutcome, fields: object): ScriptResult {
  const { requested, done, failed, cause } = outcome
  const counts = { done, missing: countMissing(outcome), failed: failed.length, cause }
  if (failed.length === 0) {
    return { ...counts, status: 200, body: { success: true, statusCode: 200, ...fields } }
  }
  const error = toFailure(failed.length, requested)
  return {
    ...counts,
    status: 502,
    body: { status: 'error', error, success: false, statusCode: 502, ...fields, failed },
  }
}

function toFailure(failed: number, requested: number): string {
  return `the cache database failed for ${failed} of ${requested} keys; it is safe to repeat the call`
}

function toInvalidated({ purge, removed, cause }: Invalidation, key: string): ScriptResult {
  const deleted = removed?.done ?? 0
  const failed = removed?.failed.length ?? 0
  const missing = removed === undefined ? 0 : 1 - deleted - failed
  const counts = { done: deleted, missing, failed, cause }
  const { kind, ...nodes } = purge ?? { kind: 'failed' }
  const fields = { deleted, ...nodes }
  if (purge === undefined || failed > 0) {
    const error =
      purge === undefined
        ? 'what is cached could not be dropped on every node; it is safe to repeat the call'
        : toFailure(failed, 1)
    return {
      ...counts,
      status: 502,
      body: { status: 'error', error, ...fields, failed: failed > 0 ? [key] : [] },
    }
  }
  return kind === 'done'
    ? { ...counts, status: 200, body: { status: 'success', ...fields } }
    : { ...counts, status: 202, body: { status: 'pending', ...fields } }
}

/** A text that is no JSON, or has more levels than a body may have, stays a text. */
function toValue(text: string | undefined, isJson: boolean): unknown {
  if (text === undefined) return null
  if (!isJson || isTooDeep(text)) return text
  try {
    return parseExactly(text)
  } catch {
    return text
  }
}
