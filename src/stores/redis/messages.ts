import type { Change } from './changes.ts'

/** What the control thread and a data-plane thread say to each other about the store. */

export interface FromRedisStore {
  readonly kind: 'changed'
  readonly id: number
  readonly change: Change
}

/** Nothing in the thread acts by the old state any more. */
export interface ToRedisStore {
  readonly kind: 'applied'
  readonly id: number
}
