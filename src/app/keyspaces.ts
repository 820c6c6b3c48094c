import { type Limit, sameLimit } from '../domain/bucket.ts'
import { RpcError } from '../domain/errors.ts'
import { generateId } from '../domain/identifiers.ts'
import type { Keyspace } from '../domain/key.ts'
import type { ServiceKey } from '../domain/service-key.ts'
import type { Clock } from '../ports/runtime.ts'
import type { KeyStore, KeyspaceChange } from '../ports/stores.ts'
import type { Management } from './management.ts'
import { type ListOptions, type ListView, loadPage } from './paging.ts'
import { fromLimit, type RateLimitView, toLimit } from './rate-limits.ts'

export interface KeyspaceView {
  ksid: string
  name: string
  keys_prefix: string
  ratelimit?: RateLimitView
  /** Left out where it is false. */
  require_expiration?: boolean
}

/** Fails with `keyspace_exists` where the name or the prefix is taken. */
export async function createKeyspace(
  deps: Pick<Management, 'keyStore' | 'clock' | 'random'>,
  input: Pick<Keyspace, 'name' | 'keysPrefix' | 'limit' | 'requireExpiration'>,
): Promise<KeyspaceView> {
  const keyspace: Keyspace = {
    ksid: generateId('ks', deps.random.bytes),
    name: input.name,
    keysPrefix: input.keysPrefix,
    limit: input.limit,
    requireExpiration: input.requireExpiration,
    createdAtMs: deps.clock.wallMs(),
  }
  await deps.keyStore.createKeyspace(keyspace)
  return toKeyspaceView(keyspace)
}

export async function getKeyspace(
  deps: Pick<Management, 'keyStore'>,
  input: { readonly ksid: string },
): Promise<KeyspaceView> {
  return toKeyspaceView(assertKeyspace(await deps.keyStore.findKeyspace(input.ksid)))
}

/** By name; a service key without `admin` sees what it may read. */
export async function listKeyspaces(
  deps: Pick<Management, 'keyStore'>,
  input: { readonly list: ListOptions; readonly reader: ServiceKey },
): Promise<{ list: ListView; keyspaces: KeyspaceView[] }> {
  const visible = toVisible(input.reader)
  const { list, items } = await loadPage(input.list, (page) => deps.keyStore.listKeyspaces(page, visible))
  return { list, keyspaces: items.map(toKeyspaceView) }
}

/** Absent fields stay as they are. A changed limit holds for the keys that inherit it at once. */
export async function updateKeyspace(
  deps: Pick<Management, 'keyStore'>,
  input: { readonly ksid: string; readonly change: KeyspaceChange },
): Promise<KeyspaceView> {
  return toKeyspaceView(assertKeyspace(await deps.keyStore.updateKeyspace(input.ksid, input.change)))
}

/** Deletes its keys too, and frees name and prefix. */
export async function deleteKeyspace(
  deps: Pick<Management, 'keyStore'>,
  input: { readonly ksid: string },
): Promise<null> {
  if (!(await deps.keyStore.deleteKeyspace(input.ksid))) throw new RpcError('keyspace_not_found')
  return null
}

/** A keyspace of the configuration file, in the file's words. */
export interface DeclaredKeyspace {
  readonly ksid: string
  readonly name: string
  readonly keys_prefix: string
  readonly ratelimit?: Readonly<RateLimitView> | null | undefined
  readonly require_expiration?: boolean | undefined
}

export interface AppliedKeyspaces {
  readonly created: readonly string[]
  readonly updated: readonly string[]
}

/**
 * Creates or updates the declared keyspaces, at start and on reload, and writes only what differs.
 * Others are left alone. Rejects with an `Error` for people where a name or prefix belongs to
 * another keyspace, and then nothing was written; declared keyspaces that hand a name on to each
 * other are no conflict.
 */
export async function applyDeclaredKeyspaces(
  keyStore: KeyStore,
  declared: readonly DeclaredKeyspace[],
  clock: Clock,
): Promise<AppliedKeyspaces> {
  const applied = { created: [] as string[], updated: [] as string[] }
  const own = new Set(declared.map(({ ksid }) => ksid))
  for (const one of declared) {
    const rival = await findRival(keyStore, one, own)
    if (rival !== undefined) throw toConflict(one, rival)
  }
  let waiting = declared
  while (waiting.length > 0) {
    const blocked: DeclaredKeyspace[] = []
    for (const one of waiting) {
      const outcome = await applyOne(keyStore, one, clock)
      if (outcome === 'blocked') blocked.push(one)
      else if (outcome !== 'unchanged') applied[outcome].push(one.ksid)
    }
    const [first] = blocked
    if (first !== undefined && blocked.length === waiting.length) {
      throw toConflict(first, await findRival(keyStore, first, new Set([first.ksid])))
    }
    waiting = blocked
  }
  return applied
}

async function applyOne(
  keyStore: KeyStore,
  declared: DeclaredKeyspace,
  clock: Clock,
): Promise<'created' | 'updated' | 'unchanged' | 'blocked'> {
  const wanted: Keyspace = {
    ksid: declared.ksid,
    name: declared.name,
    keysPrefix: declared.keys_prefix,
    limit: toLimit(declared.ratelimit),
    requireExpiration: declared.require_expiration === true,
    createdAtMs: clock.wallMs(),
  }
  const present = await keyStore.findKeyspace(declared.ksid)
  if (present !== undefined && isSame(present, wanted)) return 'unchanged'
  try {
    if (present === undefined) {
      await keyStore.createKeyspace(wanted)
      return 'created'
    }
    const { name, keysPrefix, limit, requireExpiration } = wanted
    await keyStore.updateKeyspace(wanted.ksid, { name, keysPrefix, limit: limit ?? null, requireExpiration })
    return 'updated'
  } catch (error) {
    if (!(error instanceof RpcError) || error.code !== 'keyspace_exists') throw error
    // Another node that starts at the same time may have been quicker.
    const isThereNow = present === undefined && (await keyStore.findKeyspace(declared.ksid)) !== undefined
    return isThereNow ? applyOne(keyStore, declared, clock) : 'blocked'
  }
}

function toConflict(declared: DeclaredKeyspace, other: Keyspace | undefined): Error {
  const { ksid, name, keys_prefix } = declared
  const self = `keyspace ${ksid} of the configuration (name "${name}", prefix "${keys_prefix}")`
  if (other === undefined) return new Error(`${self} has a name or prefix that is taken`)
  const shared = [other.name === name ? 'name' : '', other.keysPrefix === keys_prefix ? 'prefix' : '']
  return new Error(
    `${self} has the same ${shared.filter(Boolean).join(' and ')} as keyspace ${other.ksid} ` +
      `(name "${other.name}", prefix "${other.keysPrefix}"); give one of them another, or delete the other`,
  )
}

/** A keyspace, none of those in `except`, that has the name or the prefix. Asks only where one is not free. */
async function findRival(
  keyStore: KeyStore,
  declared: DeclaredKeyspace,
  except: ReadonlySet<string>,
): Promise<Keyspace | undefined> {
  const present = await keyStore.findKeyspace(declared.ksid)
  if (present?.name === declared.name && present.keysPrefix === declared.keys_prefix) return undefined
  for (let page = 1; ; page++) {
    const { items } = await keyStore.listKeyspaces({ page, limit: 100 })
    if (items.length === 0) return undefined
    const rival = items.find(
      ({ ksid, name, keysPrefix }) =>
        !except.has(ksid) && (name === declared.name || keysPrefix === declared.keys_prefix),
    )
    if (rival !== undefined) return rival
  }
}

function isSame(a: Keyspace, b: Keyspace): boolean {
  return (
    a.name === b.name &&
    a.keysPrefix === b.keysPrefix &&
    sameLimit(a.limit, b.limit) &&
    a.requireExpiration === b.requireExpiration
  )
}

/** `undefined` shows every keyspace. */
function toVisible(reader: ServiceKey): ReadonlySet<string> | undefined {
  if (reader.admin || reader.policies.get('*')?.read === true) return undefined
  const readable = [...reader.policies].filter(([, policy]) => policy.read)
  return new Set(readable.map(([ksid]) => ksid))
}

function assertKeyspace(keyspace: Keyspace | undefined): Keyspace {
  if (keyspace === undefined) throw new RpcError('keyspace_not_found')
  return keyspace
}

function toKeyspaceView({ ksid, name, keysPrefix, limit, requireExpiration }: Keyspace): KeyspaceView {
  return {
    ksid,
    name,
    keys_prefix: keysPrefix,
    ...toRateLimitField(limit),
    ...(requireExpiration ? { require_expiration: true } : {}),
  }
}

function toRateLimitField(limit: Limit | undefined): { ratelimit?: RateLimitView } {
  return limit === undefined ? {} : { ratelimit: fromLimit(limit) }
}
