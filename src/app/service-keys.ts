import { RpcError } from '../domain/errors.ts'
import { generateId } from '../domain/identifiers.ts'
import type { Policy, ServiceKey } from '../domain/service-key.ts'
import type { KeyStore, ServiceKeyChange } from '../ports/stores.ts'
import type { Management } from './management.ts'
import { type ListOptions, type ListView, loadPage } from './paging.ts'
import { formatInstant } from './timestamps.ts'
import { hashToken, isSameHash, mintToken, SERVICE_TOKEN_PREFIX } from './tokens.ts'

export interface ServiceKeyView {
  skid: string
  description: string
  admin: boolean
  keyspaces_policies: Record<string, Policy>
  roles: string[]
  /** Left out for the root service key, which was never created. */
  created_at?: string
  /** Only in the answer that minted it. */
  token?: string
}

/** Reserved for the token of the configuration: no stored service key ever has it. */
const ROOT_SKID = 'sk_root'

/** Acts for whoever presents `admin.root_token`. It is in no store and in no list. */
const ROOT_SERVICE_KEY: ServiceKey = {
  skid: ROOT_SKID,
  description: 'root token of the configuration',
  admin: true,
  policies: new Map(),
  roles: [],
  createdAtMs: 0,
}

/** Who presents this token; `undefined` for nobody that we know. */
export async function findServiceKeyByToken(
  deps: Pick<Management, 'keyStore' | 'findRootToken'>,
  tokenHash: string,
): Promise<ServiceKey | undefined> {
  if (isRootToken(deps, tokenHash)) return ROOT_SERVICE_KEY
  return deps.keyStore.findServiceKeyByToken(tokenHash)
}

export interface NewServiceKey {
  /** Generated where it is `undefined`. */
  readonly skid: string | undefined
  readonly description: string
  readonly admin: boolean
  readonly policies: ReadonlyMap<string, Policy>
  readonly roles: readonly string[]
}

/**
 * Fails with `service_key_exists` where the skid was ever used, and with `keyspace_not_found` where
 * a policy names no keyspace; then nothing was created.
 */
export async function createServiceKey(
  deps: Pick<Management, 'keyStore' | 'clock' | 'random'>,
  input: NewServiceKey,
): Promise<ServiceKeyView> {
  if (input.skid === ROOT_SKID) throw new RpcError('service_key_exists')
  await assertKeyspaces(deps, input.policies)
  return mintServiceKey(deps, input)
}

/** For the command line, which has no RPC to go through: straight into the store. */
export function createAdminServiceKey(
  deps: Pick<Management, 'clock' | 'random'> & { readonly keyStore: Pick<KeyStore, 'createServiceKey'> },
  input: Pick<NewServiceKey, 'admin' | 'roles' | 'description'>,
): Promise<ServiceKeyView> {
  return mintServiceKey(deps, { skid: undefined, policies: new Map(), ...input })
}

export function showServiceKey(serviceKey: ServiceKey): ServiceKeyView {
  return toServiceKeyView(serviceKey)
}

/** `skid` wins over `token`. */
export async function getServiceKey(
  deps: Pick<Management, 'keyStore' | 'findRootToken'>,
  input: { readonly skid: string | undefined; readonly token: string | undefined },
): Promise<ServiceKeyView> {
  const { skid, token } = input
  if (skid === undefined) {
    return toServiceKeyView(assertServiceKey(await findServiceKeyByToken(deps, hashToken(token ?? ''))))
  }
  if (skid === ROOT_SKID && deps.findRootToken() !== undefined) return toServiceKeyView(ROOT_SERVICE_KEY)
  return toServiceKeyView(assertServiceKey(await deps.keyStore.findServiceKey(skid)))
}

/** Oldest first. */
export async function listServiceKeys(
  deps: Pick<Management, 'keyStore'>,
  input: { readonly list: ListOptions },
): Promise<{ list: ListView; service_keys: ServiceKeyView[] }> {
  const { list, items } = await loadPage(input.list, (page) => deps.keyStore.listServiceKeys(page))
  return { list, service_keys: items.map((serviceKey) => toServiceKeyView(serviceKey)) }
}

/** Absent fields stay as they are; `policies` and `roles` are replaced as a whole. */
export async function updateServiceKey(
  deps: Pick<Management, 'keyStore'>,
  input: { readonly skid: string; readonly change: ServiceKeyChange },
): Promise<ServiceKeyView> {
  const { skid, change } = input
  assertServiceKey(await deps.keyStore.findServiceKey(skid))
  if (change.policies !== undefined) await assertKeyspaces(deps, change.policies)
  return toServiceKeyView(assertServiceKey(await deps.keyStore.updateServiceKey(skid, change)))
}

/**
 * The old token is refused from the answer on. Fails with `service_key_exists` where another
 * service key, or the configuration's root token, has this one. The root token itself is changed
 * in the configuration, so `sk_root` is not found here.
 */
export async function setServiceKeyToken(
  deps: Pick<Management, 'keyStore' | 'findRootToken'>,
  input: { readonly skid: string; readonly token: string },
): Promise<null> {
  const { skid, token } = input
  const tokenHash = hashToken(token)
  assertServiceKey(await deps.keyStore.findServiceKey(skid))
  if (isRootToken(deps, tokenHash)) throw new RpcError('service_key_exists')
  if (!(await deps.keyStore.setServiceKeyToken(skid, tokenHash))) throw new RpcError('service_key_not_found')
  return null
}

export async function deleteServiceKey(
  deps: Pick<Management, 'keyStore'>,
  input: { readonly skid: string },
): Promise<null> {
  if (!(await deps.keyStore.deleteServiceKey(input.skid))) throw new RpcError('service_key_not_found')
  return null
}

async function mintServiceKey(
  deps: Pick<Management, 'clock' | 'random'> & { readonly keyStore: Pick<KeyStore, 'createServiceKey'> },
  { skid, description, admin, policies, roles }: NewServiceKey,
): Promise<ServiceKeyView> {
  const token = mintToken(SERVICE_TOKEN_PREFIX, deps.random)
  const serviceKey: ServiceKey = {
    skid: skid ?? generateId('sk', deps.random.bytes),
    description,
    admin,
    policies,
    roles,
    createdAtMs: deps.clock.wallMs(),
  }
  await deps.keyStore.createServiceKey(serviceKey, hashToken(token))
  return toServiceKeyView(serviceKey, token)
}

async function assertKeyspaces(
  deps: Pick<Management, 'keyStore'>,
  policies: ReadonlyMap<string, Policy>,
): Promise<void> {
  for (const ksid of policies.keys()) {
    if (ksid !== '*' && (await deps.keyStore.findKeyspace(ksid)) === undefined) {
      throw new RpcError('keyspace_not_found', { invalidFields: ['keyspaces_policies'] })
    }
  }
}

function isRootToken(deps: Pick<Management, 'findRootToken'>, tokenHash: string): boolean {
  const rootToken = deps.findRootToken()
  return rootToken !== undefined && isSameHash(hashToken(rootToken), tokenHash)
}

function assertServiceKey(serviceKey: ServiceKey | undefined): ServiceKey {
  if (serviceKey === undefined) throw new RpcError('service_key_not_found')
  return serviceKey
}

function toServiceKeyView(serviceKey: ServiceKey, token?: string): ServiceKeyView {
  const { skid, description, admin, policies, roles, createdAtMs } = serviceKey
  const view: ServiceKeyView = {
    skid,
    description,
    admin,
    keyspaces_policies: Object.fromEntries(policies),
    roles: [...roles],
  }
  if (createdAtMs > 0) view.created_at = formatInstant(createdAtMs)
  if (token !== undefined) view.token = token
  return view
}
