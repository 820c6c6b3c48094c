import { z } from 'zod'
import { checkKeyOnce, createKey, deleteKey, getKey, listKeys, rotateKey, updateKey } from '../../app/keys.ts'
import {
  expiresAt,
  expiresAtChange,
  expiresIn,
  listOptions,
  optionalText,
  rateLimit,
  rateLimitChange,
  requiredText,
} from '../params.ts'
import { defineProcedure, needsPolicy, type Procedure } from '../procedure.ts'
import { keyListResult, keyResult, nothing } from '../results.ts'

const EXAMPLE_KEY = {
  kid: 'k_abcdefghijklmnopqrstuv',
  ksid: 'ks_orders',
  created_at: '2026-11-21T08:00:00.000Z',
  ratelimit: {
    state: { remaining: 5, last_refilled: '2026-11-21T08:00:00.000Z' },
    limit: 5,
    refill_rate: 1,
    refill_interval: 1000,
  },
  expires_at: '2026-11-21T08:05:00.000Z',
}
const EXAMPLE_TOKEN = 'ord_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
const EXAMPLE_LIMIT = { limit: 5, refill_rate: 1, refill_interval: 1000 }
const { kid, ksid } = EXAMPLE_KEY

const oneKey = z.object({ ksid: requiredText(), kid: requiredText() })

const create = defineProcedure({
  name: 'keys.create',
  summary: 'Create a key; the answer shows its token for the only time.',
  access: needsPolicy('write'),
  params: z.object({
    ksid: requiredText(),
    expires_in: expiresIn,
    expires_at: expiresAt,
    ratelimit: rateLimit,
  }),
  result: keyResult,
  errors: ['keyspace_not_found', 'invalid_expiration', 'store_full'],
  traits: { writes: true },
  example: {
    params: { ksid, expires_in: 300_000, ratelimit: EXAMPLE_LIMIT },
    result: { ...EXAMPLE_KEY, token: EXAMPLE_TOKEN },
  },
  handle: (deps, params) =>
    createKey(deps, {
      ksid: params.ksid,
      expiration: { at: params.expires_at, inMs: params.expires_in },
      ownLimit: params.ratelimit,
    }),
})

const check = defineProcedure({
  name: 'keys.check',
  summary: 'Take one token of the bucket of the key that this token belongs to.',
  access: needsPolicy('read'),
  params: z.object({ ksid: requiredText(), token: requiredText() }),
  result: keyResult,
  errors: ['key_not_found', 'key_expired', 'rate_limit_exceeded'],
  example: {
    params: { ksid, token: EXAMPLE_TOKEN },
    result: { ...EXAMPLE_KEY, last_used: '2026-11-21T08:00:01.000Z' },
  },
  handle: (deps, params) => checkKeyOnce(deps, params),
})

const list = defineProcedure({
  name: 'keys.list',
  summary: 'List the keys of a keyspace, newest first.',
  access: needsPolicy('read'),
  params: z.object({ ksid: requiredText(), list: listOptions }),
  result: keyListResult,
  errors: ['keyspace_not_found'],
  example: {
    params: { ksid, list: { page: 1, limit: 10 } },
    result: { list: { page: 1, limit: 10, last_page: 1 }, keys: [EXAMPLE_KEY] },
  },
  handle: (deps, params) => listKeys(deps, params),
})

const get = defineProcedure({
  name: 'keys.get',
  summary: 'Get a key by its id or by its token; the id wins.',
  access: needsPolicy('read'),
  params: z
    .object({ ksid: requiredText(), kid: optionalText(), token: optionalText() })
    .superRefine((params, context) => {
      if (params.kid !== undefined || params.token !== undefined) return
      for (const field of ['kid', 'token']) {
        context.addIssue({
          code: 'custom',
          path: [field],
          message: 'must be given: one of kid and token is needed',
        })
      }
    }),
  result: keyResult,
  errors: ['key_not_found'],
  example: { params: { ksid, kid }, result: EXAMPLE_KEY },
  handle: (deps, params) => getKey(deps, { ksid: params.ksid, kid: params.kid, token: params.token }),
})

const update = defineProcedure({
  name: 'keys.update',
  summary: 'Change the expiry or the limit of a key. What it has spent stays spent.',
  access: needsPolicy('write'),
  params: oneKey.extend({ expires_in: expiresIn, expires_at: expiresAtChange, ratelimit: rateLimitChange }),
  result: keyResult,
  errors: ['key_not_found', 'invalid_expiration', 'store_full'],
  traits: { writes: true },
  example: { params: { ksid, kid, ratelimit: EXAMPLE_LIMIT }, result: EXAMPLE_KEY },
  handle: (deps, params) =>
    updateKey(deps, {
      ksid: params.ksid,
      kid: params.kid,
      expiration: { at: params.expires_at, inMs: params.expires_in },
      ownLimit: params.ratelimit,
    }),
})

const rotate = defineProcedure({
  name: 'keys.rotate',
  summary: 'Give a key a new token; the old one is refused from the answer on.',
  access: needsPolicy('write'),
  params: oneKey,
  result: keyResult,
  errors: ['key_not_found', 'store_full'],
  traits: { writes: true },
  example: { params: { ksid, kid }, result: { ...EXAMPLE_KEY, token: EXAMPLE_TOKEN } },
  handle: (deps, params) => rotateKey(deps, params),
})

const remove = defineProcedure({
  name: 'keys.delete',
  summary: 'Delete a key; its token is refused from the answer on.',
  access: needsPolicy('write'),
  params: oneKey,
  result: nothing,
  errors: ['key_not_found'],
  traits: { writes: true },
  example: { params: { ksid, kid }, result: null },
  handle: (deps, params) => deleteKey(deps, params),
})

export const KEY_PROCEDURES: readonly Procedure[] = [create, check, list, get, update, rotate, remove]
