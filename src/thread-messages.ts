import type { Config } from './config/schema.ts'
import type { CacheFromThread, CacheToThread } from './data-plane/cache/messages.ts'
import type { TargetSeed } from './data-plane/target-directory.ts'
import type { PurgeMemory } from './ports/purge-counters.ts'
import type { TlsMaterial } from './ports/tls.ts'
import type { StoreFromThread, StoreSeed, StoreToThread } from './stores/store.ts'
import type { Counters, MetricNames } from './telemetry/counters.ts'
import type { ClockAnchor } from './telemetry/system-clock.ts'

/** What the control thread and a data-plane thread say to each other. */

export interface ThreadStart {
  /** From 0. */
  readonly index: number
  readonly config: Config
  /** Resolved: port 0 has become a real port. */
  readonly listen: { readonly host: string; readonly port: number; readonly reusePort: boolean }
  /** Read by the control thread, so that all threads serve the same certificates. */
  readonly tls: TlsMaterial | undefined
  readonly store: StoreSeed
  readonly counters: Counters
  readonly purge: PurgeMemory
  /** Whether there are other threads or nodes to share cached answers with. */
  readonly sharesCache: boolean
  readonly names: MetricNames
  readonly targets: TargetSeed
  readonly clock: ClockAnchor
  /** Of the gateway. */
  readonly version: string
}

export type ToThread =
  | StoreToThread
  | { readonly kind: 'cache'; readonly message: CacheToThread }
  /** Make ready for a configuration, and answer `prepared`. */
  | {
      readonly kind: 'prepare'
      readonly config: Config
      readonly names: MetricNames
      readonly targets: TargetSeed
    }
  /** The addresses of some target have changed. */
  | { readonly kind: 'targets'; readonly targets: TargetSeed }
  /** Work by what was prepared, and answer `committed`. */
  | { readonly kind: 'commit' }
  /** Drop what was prepared. */
  | { readonly kind: 'abandon' }
  /** Serve other certificates from now on. */
  | { readonly kind: 'tls'; readonly material: TlsMaterial }
  /** Go on, but with answers that end their connections. */
  | { readonly kind: 'drain' }
  /** Finish what runs, for at most `graceMs`, and answer `closed`. */
  | { readonly kind: 'close'; readonly graceMs: number }

export type FromThread =
  | StoreFromThread
  | { readonly kind: 'cache'; readonly message: CacheFromThread }
  | { readonly kind: 'listening'; readonly port: number }
  /** The message is for the user. */
  | { readonly kind: 'listen-failed'; readonly message: string }
  /** With what is wrong with the configuration, which is then not kept. */
  | { readonly kind: 'prepared'; readonly problem: string | undefined }
  | { readonly kind: 'committed' }
  | { readonly kind: 'closed' }
