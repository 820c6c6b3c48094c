/** Drops what the gateway has cached: upstream answers and key metadata (contract section 6). */
export interface CachePurger {
  /**
   * `key` is plain (the answers stored under it or tagged with it, and key metadata), typed (`url:…`, `tag:…`, `route:…`, `key:k_…`,
   * `keyspace:ks_…`: one kind) or `all:`. Resolves once every node has acknowledged or lost its lease, or after 6 s.
   */
  purge(key: string): Promise<PurgeOutcome>
}
export type PurgeOutcome =
  | { readonly kind: 'done'; readonly acknowledged: number }
  | { readonly kind: 'pending'; readonly acknowledged: number; readonly pending: number }
