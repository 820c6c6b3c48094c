import type { Entry, VaryNote } from './entry.ts'
import type { FlightEnd } from './flights.ts'

/* What a data-plane thread and the directory on the control thread say to each other. */

/** What may lie in more threads than one, and in the store that nodes share. */
export type SharedItem = Entry | VaryNote

export type CacheFromThread =
  /** Asks for what is stored elsewhere; `claim` also waits for it, or gets leave to fetch it. */
  | {
      readonly kind: 'claim' | 'look'
      readonly id: number
      readonly key: string
      /** An answer born no later than this is of no use. */
      readonly newerThanMs: number
    }
  /** The fetch that was allowed is over; `stored` lists the keys where something new lies. */
  | {
      readonly kind: 'settle'
      readonly key: string
      readonly end: FlightEnd
      readonly stored: readonly string[]
    }
  /** The answer to `want`. */
  | { readonly kind: 'give'; readonly id: number; readonly item: SharedItem | undefined }
  /** This thread has made answers out of date, here; other nodes should hear of it. */
  | { readonly kind: 'outdate'; readonly marks: readonly number[] }

export type CacheToThread =
  /** The answers to `claim` and `look`. */
  | { readonly kind: 'granted'; readonly id: number; readonly key: string }
  | { readonly kind: 'missing'; readonly id: number }
  | {
      readonly kind: 'found'
      readonly id: number
      readonly item: SharedItem
      /** It was fetched while the asker waited. */
      readonly isAwaited: boolean
    }
  /** Asks for what the thread has under a key. */
  | { readonly kind: 'want'; readonly id: number; readonly key: string; readonly newerThanMs: number }
