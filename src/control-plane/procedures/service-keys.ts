import { z } from 'zod'
import {
  createServiceKey,
  deleteServiceKey,
  getServiceKey,
  listServiceKeys,
  setServiceKeyToken,
  showServiceKey,
  updateServiceKey,
} from '../../app/service-keys.ts'
import { hashToken } from '../../app/tokens.ts'
import { RpcError } from '../../domain/errors.ts'
import { isId } from '../../domain/identifiers.ts'
import { ROLE_NAME } from '../../domain/service-key.ts'
import type { ServiceKeyChange } from '../../ports/stores.ts'
import { description, listOptions, optionalFlag, optionalText, requiredText } from '../params.ts'
import { type Access, ADMIN_ONLY, ANY_SERVICE_KEY, defineProcedure, type Procedure } from '../procedure.ts'
import { nothing, serviceKeyListResult, serviceKeyResult } from '../results.ts'

const POLICIES_MAX = 1000
const ROLES_MAX = 16

const EXAMPLE_SERVICE_KEY = {
  skid: 'sk_abcdefghijklmnopqrstuv',
  description: 'orders service',
  admin: false,
  keyspaces_policies: { ks_orders: { read: true, write: false } },
  roles: [],
  created_at: '2026-11-21T08:00:00.000Z',
}
const { skid } = EXAMPLE_SERVICE_KEY
const EXAMPLE_CHANGE = {
  description: EXAMPLE_SERVICE_KEY.description,
  keyspaces_policies: EXAMPLE_SERVICE_KEY.keyspaces_policies,
}

const TOKEN_HINT = 'must be 16 to 256 visible ASCII characters'
const ROLE_HINT = 'must be 1 to 32 uppercase letters or "_"'
const SKID_HINT = 'must be sk_ and 1 to 64 letters, digits, "_" or "-"'

const oneServiceKey = z.object({ skid: requiredText() })

const grant = optionalFlag().transform((flag) => flag ?? false)

const policies = z
  .record(
    z.string(),
    z.object({ read: grant, write: grant }, 'must be an object'),
    'must be an object by ksid',
  )
  .refine((map) => Object.keys(map).length <= POLICIES_MAX, `must have at most ${POLICIES_MAX} keyspaces`)
  .transform((map) => new Map(Object.entries(map)))
  .nullish()

const roles = z
  .array(z.string(ROLE_HINT).regex(ROLE_NAME, ROLE_HINT), 'must be a list of strings')
  .max(ROLES_MAX, `must have at most ${ROLES_MAX} items`)
  .transform((list) => [...new Set(list)])
  .nullish()

/** Whoever may not read it learns nothing about a service key, not even whether it is there. */
const ITSELF_OR_ADMIN: Access<{ skid?: string | undefined; token?: string | undefined }> = {
  needs: 'a service key with `admin`; any service key for itself',
  allows: ({ serviceKey, tokenHash }, params) =>
    serviceKey.admin ||
    (params.skid !== undefined
      ? params.skid === serviceKey.skid
      : params.token !== undefined && hashToken(params.token) === tokenHash),
}

const ITS_TOKEN_OR_ADMIN: Access<{ skid: string }> = {
  needs: ITSELF_OR_ADMIN.needs,
  allows: ({ serviceKey }, params) => serviceKey.admin || params.skid === serviceKey.skid,
}

const ADMIN_NOT_ITSELF: Access<{ skid: string }> = {
  needs: 'a service key with `admin`; no service key can delete itself',
  allows({ serviceKey }, params) {
    if (params.skid === serviceKey.skid) throw new RpcError('cannot_delete_itself')
    return serviceKey.admin
  },
}

const current = defineProcedure({
  name: 'serviceKeys.current',
  summary: 'Get the service key that makes this call. The body is not looked at.',
  access: ANY_SERVICE_KEY,
  params: z.object({}),
  result: serviceKeyResult,
  errors: [],
  traits: { body: 'ignored' },
  example: { params: {}, result: EXAMPLE_SERVICE_KEY },
  handle: async (_deps, _params, { serviceKey }) => showServiceKey(serviceKey),
})

const get = defineProcedure({
  name: 'serviceKeys.get',
  summary: 'Get a service key by its id or by its token; the id wins.',
  access: ITSELF_OR_ADMIN,
  params: z.object({ skid: optionalText(), token: optionalText() }).superRefine((params, context) => {
    if (params.skid !== undefined || params.token !== undefined) return
    for (const field of ['skid', 'token']) {
      context.addIssue({
        code: 'custom',
        path: [field],
        message: 'must be given: one of skid and token is needed',
      })
    }
  }),
  result: serviceKeyResult,
  errors: ['service_key_not_found'],
  example: { params: { skid }, result: EXAMPLE_SERVICE_KEY },
  handle: (deps, params) => getServiceKey(deps, { skid: params.skid, token: params.token }),
})

const list = defineProcedure({
  name: 'serviceKeys.list',
  summary: 'List all service keys, oldest first.',
  access: ADMIN_ONLY,
  params: z.object({ list: listOptions }),
  result: serviceKeyListResult,
  errors: [],
  example: {
    params: { list: { page: 1, limit: 10 } },
    result: { list: { page: 1, limit: 10, last_page: 1 }, service_keys: [EXAMPLE_SERVICE_KEY] },
  },
  handle: (deps, params) => listServiceKeys(deps, params),
})

const create = defineProcedure({
  name: 'serviceKeys.create',
  summary: 'Create a service key; the answer shows its token for the only time.',
  access: ADMIN_ONLY,
  params: z.object({
    skid: optionalText()
      .refine((id) => id === undefined || isId('sk', id), SKID_HINT)
      .describe('Generated where it is absent or empty. An id that was ever used is taken.'),
    description: description.nullish(),
    admin: optionalFlag(),
    keyspaces_policies: policies,
    roles,
  }),
  result: serviceKeyResult,
  errors: ['keyspace_not_found', 'service_key_exists', 'store_full'],
  traits: { writes: true },
  example: {
    params: EXAMPLE_CHANGE,
    result: { ...EXAMPLE_SERVICE_KEY, token: 'sk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA' },
  },
  handle: (deps, params) =>
    createServiceKey(deps, {
      skid: params.skid,
      description: params.description ?? '',
      admin: params.admin ?? false,
      policies: params.keyspaces_policies ?? new Map(),
      roles: params.roles ?? [],
    }),
})

const update = defineProcedure({
  name: 'serviceKeys.update',
  summary: 'Change a service key. Policies and roles are replaced as a whole.',
  access: ADMIN_ONLY,
  params: oneServiceKey.extend({
    description: description.nullish(),
    admin: optionalFlag(),
    keyspaces_policies: policies,
    roles,
  }),
  result: serviceKeyResult,
  errors: ['service_key_not_found', 'keyspace_not_found', 'store_full'],
  traits: { writes: true },
  example: { params: { skid, ...EXAMPLE_CHANGE }, result: EXAMPLE_SERVICE_KEY },
  handle(deps, params) {
    const change: ServiceKeyChange = {
      ...(typeof params.description === 'string' ? { description: params.description } : {}),
      ...(params.admin === undefined ? {} : { admin: params.admin }),
      ...(params.keyspaces_policies ? { policies: params.keyspaces_policies } : {}),
      ...(params.roles ? { roles: params.roles } : {}),
    }
    return updateServiceKey(deps, { skid: params.skid, change })
  },
})

const setToken = defineProcedure({
  name: 'serviceKeys.set_token',
  summary: 'Set the token of a service key; the old one is refused from the answer on.',
  access: ITS_TOKEN_OR_ADMIN,
  params: oneServiceKey.extend({ token: z.string(TOKEN_HINT).regex(/^[\x21-\x7e]{16,256}$/, TOKEN_HINT) }),
  result: nothing,
  errors: ['service_key_not_found', 'service_key_exists', 'store_full'],
  traits: { writes: true },
  example: { params: { skid, token: 'a-token-of-our-own-making' }, result: null },
  handle: (deps, params) => setServiceKeyToken(deps, params),
})

const remove = defineProcedure({
  name: 'serviceKeys.delete',
  summary: 'Delete a service key. Its id stays taken.',
  access: ADMIN_NOT_ITSELF,
  params: oneServiceKey,
  result: nothing,
  errors: ['cannot_delete_itself', 'service_key_not_found'],
  traits: { writes: true },
  example: { params: { skid }, result: null },
  handle: (deps, params) => deleteServiceKey(deps, params),
})

export const SERVICE_KEY_PROCEDURES: readonly Procedure[] = [
  current,
  get,
  list,
  create,
  update,
  setToken,
  remove,
]
