/** Lets at most `limit` calls of one caller through in any `windowMs`, over all nodes. */
export interface CallWindow {
  /**
   * Whether the caller's call goes through now; it counts only then. Rejects with `StoreUnavailable`
   * where the store that counts cannot be asked.
   */
  enter(caller: string, limit: number): Promise<CallTurn>
}

export type CallTurn =
  | { readonly kind: 'passed' }
  /** Nothing of this caller passes before. */
  | { readonly kind: 'denied'; readonly retryAfterMs: number }

/** Both ends belong to it: two calls that are exactly this far apart are in one window. */
export const CALL_WINDOW_MS = 60_000
