import type { Clock, Random } from '../ports/runtime.ts'
import type { KeyStore } from '../ports/stores.ts'
import type { CheckKey } from './check-key.ts'

/** What the use cases of the management RPC work with; each one names the part that it needs. */
export interface Management {
  readonly keyStore: KeyStore
  readonly checkKey: CheckKey
  readonly clock: Clock
  readonly random: Random
  /** `admin.require_expiration` of the configuration in force. */
  isExpirationRequired(): boolean
  /** Works by the configuration file as it is now, or says why not. Never rejects. */
  reload(): Promise<ReloadOutcome>
  /** `admin.root_token` of the configuration in force; `undefined` where there is none. */
  findRootToken(): string | undefined
}

export type ReloadOutcome =
  /** Names of settings: those that hold now, and those that wait for the next start. */
  | { readonly kind: 'done'; readonly changed: readonly string[]; readonly restartNeeded: readonly string[] }
  /** At least one problem, with its place where it has one. Nothing has changed. */
  | { readonly kind: 'refused'; readonly problems: readonly string[] }
