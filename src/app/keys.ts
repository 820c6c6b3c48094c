import { type BucketState, type Limit, refill } from '../domain/bucket.ts'
import { RpcError } from '../domain/errors.ts'
import { generateId } from '../domain/identifiers.ts'
import type { Expiry } from '../domain/key.ts'
import type { Clock } from '../ports/runtime.ts'
import type { KeyChange, StoredKey } from '../ports/stores.ts'
import type { Management } from './management.ts'
import { type ListOptions, type ListView, loadPage } from './paging.ts'
import { fromLimit, type RateLimitView } from './rate-limits.ts'
import { formatInstant, toExpiry } from './timestamps.ts'
import { hashToken, mintToken } from './tokens.ts'

/** A key as the RPC shows it: its effective limit, and the bucket refilled to this moment. */
export interface KeyView {
  kid: string
  ksid: string
  /** Only in the answer that minted it. */
  token?: string
  created_at: string
  last_used?: string
  ratelimit?: RateLimitView & { state: { remaining: number; last_refilled: string } }
  expires_at?: string
}

/** `at` wins over `inMs`; `inMs: 0` says nothing. */
export interface ExpirationInput {
  readonly at: Expiry | undefined
  readonly inMs: number
}

/** Fails with `keyspace_not_found`, or `invalid_expiration` where an expiry is demanded and missing. */
export async function createKey(
  deps: Pick<Management, 'keyStore' | 'clock' | 'random' | 'isExpirationRequired'>,
  input: {
    readonly ksid: string
    readonly expiration: ExpirationInput
    readonly ownLimit: Limit | undefined
  },
): Promise<KeyView> {
  const { keyStore, clock, random } = deps
  const keyspace = await keyStore.findKeyspace(input.ksid)
  if (keyspace === undefined) throw new RpcError('keyspace_not_found')
  const expiresAt = resolveExpiry(input.expiration, clock)
  if (expiresAt === undefined && (keyspace.requireExpiration || deps.isExpirationRequired())) {
    throw expirationMissing()
  }
  const token = mintToken(keyspace.keysPrefix, random)
  const kid = generateId('k', random.bytes)
  await keyStore.createKey({
    kid,
    ksid: keyspace.ksid,
    tokenHash: hashToken(token),
    // The grid of refills starts here, so this is the clock that buckets live by.
    createdAtMs: clock.bucketMs(),
    expiresAt,
    ownLimit: input.ownLimit,
  })
  return toKeyView(assertKey(await keyStore.findKey(keyspace.ksid, kid)), clock, token)
}

/** `kid` wins over `token`. A key of another keyspace is not found. */
export async function getKey(
  deps: Pick<Management, 'keyStore' | 'clock'>,
  input: { readonly ksid: string; readonly kid: string | undefined; readonly token: string | undefined },
): Promise<KeyView> {
  const { kid, token, ksid } = input
  const found =
    kid !== undefined
      ? await deps.keyStore.findKey(ksid, kid)
      : await deps.keyStore.findKeyByToken(hashToken(token ?? ''))
  const stored = assertKey(found)
  if (stored.key.ksid !== ksid) throw new RpcError('key_not_found')
  return toKeyView(stored, deps.clock)
}

/**
 * Takes one token of the key's bucket, by the same function as the gateway port. Fails with
 * `key_not_found`, `key_expired`, `rate_limit_exceeded` (with `Retry-After` unless waiting is in
 * vain) or `StoreUnavailable`; none of them spends anything.
 */
export async function checkKeyOnce(
  deps: Pick<Management, 'keyStore' | 'checkKey'>,
  input: { readonly ksid: string; readonly token: string },
): Promise<KeyView> {
  const decision = await deps.checkKey(hashToken(input.token), new Set([input.ksid]), 1)
  switch (decision.kind) {
    case 'unknown':
      throw new RpcError('key_not_found')
    case 'expired':
      throw new RpcError('key_expired')
    case 'limited':
      throw new RpcError('rate_limit_exceeded', { headers: toRetryAfter(decision.retryAfterMs) })
    case 'allowed': {
      const stored = assertKey(await deps.keyStore.findKey(decision.ksid, decision.kid))
      const { limit, remaining, lastRefilledMs } = decision
      return toView(stored, limit, { remaining, lastRefilledMs })
    }
  }
}

/** Newest first. Fails with `keyspace_not_found`. */
export async function listKeys(
  deps: Pick<Management, 'keyStore' | 'clock'>,
  input: { readonly ksid: string; readonly list: ListOptions },
): Promise<{ list: ListView; keys: KeyView[] }> {
  const { keyStore, clock } = deps
  if ((await keyStore.findKeyspace(input.ksid)) === undefined) throw new RpcError('keyspace_not_found')
  const { list, items } = await loadPage(input.list, (page) => keyStore.listKeys(input.ksid, page))
  return { list, keys: items.map((stored) => toKeyView(stored, clock)) }
}

/**
 * Absent fields stay as they are. `expiration.at: null` removes the expiry unless one is demanded
 * (`invalid_expiration`); `ownLimit: null` inherits the keyspace's. What the key has spent stays spent.
 */
export async function updateKey(
  deps: Management,
  input: {
    readonly ksid: string
    readonly kid: string
    readonly expiration: { readonly at: Expiry | null | undefined; readonly inMs: number }
    readonly ownLimit: Limit | null | undefined
  },
): Promise<KeyView> {
  const { keyStore, clock } = deps
  const { ksid, kid, ownLimit } = input
  const { at, inMs } = input.expiration
  const keyspace = await keyStore.findKeyspace(ksid)
  const expiresAt = resolveExpiry({ at: at ?? undefined, inMs }, clock) ?? at
  if (expiresAt === null && (keyspace?.requireExpiration === true || deps.isExpirationRequired())) {
    assertKey(await keyStore.findKey(ksid, kid))
    throw expirationMissing()
  }
  const change: KeyChange = {
    ...(expiresAt === undefined ? {} : { expiresAt }),
    ...(ownLimit === undefined ? {} : { ownLimit }),
  }
  return toKeyView(assertKey(await keyStore.updateKey(ksid, kid, change)), clock)
}

/** Gives the key a new token of its keyspace's prefix; the old one is refused from the answer on. */
export async function rotateKey(
  deps: Pick<Management, 'keyStore' | 'clock' | 'random'>,
  input: { readonly ksid: string; readonly kid: string },
): Promise<KeyView> {
  const { keyStore, clock, random } = deps
  const { ksid, kid } = input
  const keyspace = await keyStore.findKeyspace(ksid)
  if (keyspace === undefined) throw new RpcError('key_not_found')
  const token = mintToken(keyspace.keysPrefix, random)
  if (!(await keyStore.setKeyToken(ksid, kid, hashToken(token)))) throw new RpcError('key_not_found')
  return toKeyView(assertKey(await keyStore.findKey(ksid, kid)), clock, token)
}

export async function deleteKey(
  deps: Pick<Management, 'keyStore'>,
  input: { readonly ksid: string; readonly kid: string },
): Promise<null> {
  if (!(await deps.keyStore.deleteKey(input.ksid, input.kid))) throw new RpcError('key_not_found')
  return null
}

function resolveExpiry({ at, inMs }: ExpirationInput, clock: Clock): Expiry | undefined {
  if (at !== undefined) return at
  return inMs > 0 ? toExpiry(clock.wallMs(), inMs) : undefined
}

function expirationMissing(): RpcError {
  return new RpcError('invalid_expiration', {
    invalidFields: ['expires_at'],
    details: ['keys of this keyspace need expires_at or expires_in'],
  })
}

function assertKey(stored: StoredKey | undefined): StoredKey {
  if (stored === undefined) throw new RpcError('key_not_found')
  return stored
}

function toRetryAfter(retryAfterMs: number | undefined): Record<string, string> {
  if (retryAfterMs === undefined) return {}
  return { 'Retry-After': String(Math.max(1, Math.ceil(retryAfterMs / 1000))) }
}

function toKeyView(stored: StoredKey, clock: Clock, token?: string): KeyView {
  const { limit, createdAtMs } = stored.key
  if (limit === undefined) return toView(stored, undefined, undefined, token)
  return toView(stored, limit, refill(stored.bucket, limit, createdAtMs, clock.bucketMs()), token)
}

function toView(
  { key, lastUsedMs }: StoredKey,
  limit: Limit | undefined,
  state: BucketState | undefined,
  token?: string,
): KeyView {
  const view: KeyView = { kid: key.kid, ksid: key.ksid, created_at: formatInstant(key.createdAtMs) }
  if (token !== undefined) view.token = token
  if (lastUsedMs !== undefined) view.last_used = formatInstant(lastUsedMs)
  if (limit !== undefined && state !== undefined) {
    // A lowered limit can leave a debt, which is nobody's business: nothing is left.
    const remaining = Math.max(0, state.remaining)
    const last_refilled = formatInstant(state.lastRefilledMs)
    view.ratelimit = { state: { remaining, last_refilled }, ...fromLimit(limit) }
  }
  if (key.expiresAt !== undefined) view.expires_at = key.expiresAt.text
  return view
}
