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
  /** `admin.root_token` of the configuration in force; `undefined` where there is none. */
  findRootToken(): string | undefined
}
