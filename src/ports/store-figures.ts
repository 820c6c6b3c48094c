import type { Figures } from './figures.ts'

/**
 * What a data-plane thread counts about a store that it shares with other machines: one cell each,
 * in memory that the control thread reads. Only that thread writes.
 */
export const STORE_FIGURES = [
  /** Calls to the store that carry checks. */
  'calls',
  /** Checks that the store decided. */
  'asked',
  /** Checks denied from memory, as the bucket is empty until its next refill. */
  'blocked',
  /** Checks allowed from a lease. */
  'leased',
  /** Checks and look-ups that the store failed to answer. */
  'failed',
  /** Tokens that were spent before and that the store no longer knows of, after a failover or restart. */
  'forgotten',
  /** 1 while the store is taken for dead, else 0. */
  'isDown',
  /** 1 while changes by other nodes cannot be heard of, else 0. */
  'isDeaf',
] as const

export type StoreFigure = (typeof STORE_FIGURES)[number]

export type StoreFigures = Figures<StoreFigure>
