import type { Limit } from './bucket.ts'

/** A set of keys with shared defaults. */
export interface Keyspace {
  readonly ksid: string
  readonly name: string
  /** 1 to 16 of `[A-Za-z0-9_-]`; every token of the keyspace starts with it. */
  readonly keysPrefix: string
  readonly limit: Limit | undefined
  /** Keys of this keyspace must be created with an expiry. */
  readonly requireExpiration: boolean
  readonly createdAtMs: number
}

/** A key as the store keeps it; the token itself is not part of it, only its hash is stored. */
export interface Key {
  readonly kid: string
  readonly ksid: string
  readonly createdAtMs: number
  /** The text as the caller gave it, in UTC, so that no digit is lost. */
  readonly expiresAt: Expiry | undefined
  /** The key's own limit; `undefined` inherits the keyspace's. */
  readonly ownLimit: Limit | undefined
  /** The limit in force: the key's own, else the keyspace's, else none. */
  readonly limit: Limit | undefined
}

export interface Expiry {
  /** RFC 3339 in UTC with `Z`, up to nine fraction digits. */
  readonly text: string
  /** The same instant in whole milliseconds, rounded up. */
  readonly ms: number
}

export function isExpired(expiresAtMs: number, nowMs: number): boolean {
  return nowMs >= expiresAtMs
}
