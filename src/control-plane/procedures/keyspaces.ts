import { z } from 'zod'
import {
  createKeyspace,
  deleteKeyspace,
  getKeyspace,
  listKeyspaces,
  updateKeyspace,
} from '../../app/keyspaces.ts'
import type { KeyspaceChange } from '../../ports/stores.ts'
import {
  keysPrefix,
  keyspaceName,
  listOptions,
  optionalFlag,
  rateLimit,
  rateLimitChange,
  requiredText,
  unlessEmpty,
} from '../params.ts'
import { ADMIN_ONLY, ANY_SERVICE_KEY, defineProcedure, needsPolicy, type Procedure } from '../procedure.ts'
import { keyspaceListResult, keyspaceResult, nothing } from '../results.ts'

const EXAMPLE_KEYSPACE = {
  ksid: 'ks_orders',
  name: 'orders (production)',
  keys_prefix: 'ord_',
  ratelimit: { limit: 100, refill_rate: 10, refill_interval: 1000 },
}
const { ksid, ...EXAMPLE_NEW } = EXAMPLE_KEYSPACE

const oneKeyspace = z.object({ ksid: requiredText() })

const requireExpiration = optionalFlag().describe('Whether every new key must have an expiry.')

const create = defineProcedure({
  name: 'keyspaces.create',
  summary: 'Create a keyspace. Name and prefix are unique.',
  access: ADMIN_ONLY,
  params: z.object({
    name: keyspaceName,
    keys_prefix: keysPrefix,
    ratelimit: rateLimit,
    require_expiration: requireExpiration,
  }),
  result: keyspaceResult,
  errors: ['keyspace_exists', 'store_full'],
  traits: { writes: true },
  example: { params: EXAMPLE_NEW, result: EXAMPLE_KEYSPACE },
  handle: (deps, params) =>
    createKeyspace(deps, {
      name: params.name,
      keysPrefix: params.keys_prefix,
      limit: params.ratelimit,
      requireExpiration: params.require_expiration ?? false,
    }),
})

const get = defineProcedure({
  name: 'keyspaces.get',
  summary: 'Get a keyspace by its id.',
  access: needsPolicy('read'),
  params: oneKeyspace,
  result: keyspaceResult,
  errors: ['keyspace_not_found'],
  example: { params: { ksid }, result: EXAMPLE_KEYSPACE },
  handle: (deps, params) => getKeyspace(deps, params),
})

const list = defineProcedure({
  name: 'keyspaces.list',
  summary: 'List keyspaces by name: all of them for an admin, else those that the service key may read.',
  access: ANY_SERVICE_KEY,
  params: z.object({ list: listOptions }),
  result: keyspaceListResult,
  errors: [],
  example: {
    params: { list: { page: 1, limit: 10 } },
    result: { list: { page: 1, limit: 10, last_page: 1 }, keyspaces: [EXAMPLE_KEYSPACE] },
  },
  handle: (deps, params, { serviceKey }) => listKeyspaces(deps, { list: params.list, reader: serviceKey }),
})

const update = defineProcedure({
  name: 'keyspaces.update',
  summary: 'Change a keyspace. A new limit holds at once for the keys that inherit it.',
  access: ADMIN_ONLY,
  params: oneKeyspace.extend({
    name: unlessEmpty(keyspaceName),
    keys_prefix: unlessEmpty(keysPrefix),
    ratelimit: rateLimitChange,
    require_expiration: requireExpiration,
  }),
  result: keyspaceResult,
  errors: ['keyspace_not_found', 'keyspace_exists', 'store_full'],
  traits: { writes: true },
  example: { params: { ksid, name: EXAMPLE_KEYSPACE.name }, result: EXAMPLE_KEYSPACE },
  handle(deps, params) {
    const { name, keys_prefix, ratelimit, require_expiration } = params
    const change: KeyspaceChange = {
      ...(name === undefined ? {} : { name }),
      ...(keys_prefix === undefined ? {} : { keysPrefix: keys_prefix }),
      ...(ratelimit === undefined ? {} : { limit: ratelimit }),
      ...(require_expiration === undefined ? {} : { requireExpiration: require_expiration }),
    }
    return updateKeyspace(deps, { ksid: params.ksid, change })
  },
})

const remove = defineProcedure({
  name: 'keyspaces.delete',
  summary: 'Delete a keyspace with its keys.',
  access: ADMIN_ONLY,
  params: oneKeyspace,
  result: nothing,
  errors: ['keyspace_not_found'],
  traits: { writes: true },
  example: { params: { ksid }, result: null },
  handle: (deps, params) => deleteKeyspace(deps, params),
})

export const KEYSPACE_PROCEDURES: readonly Procedure[] = [create, get, list, update, remove]
