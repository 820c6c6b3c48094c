/** What a listener needs to speak TLS: plain data, safe to clone into threads. */
export interface TlsMaterial {
  /** At least one. The first is for clients that ask for a name that no other one has, or for none. */
  readonly certificates: readonly PemPair[]
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3'
  /** PEM of the authorities that sign clients' certificates; without it none is asked for. */
  readonly clientCa: string | undefined
  /**
   * 48 secret bytes, the same on all threads, so that a session begun on one is resumed on any.
   * Whoever has them can read the TLS 1.2 sessions resumed with them, so they are changed from time
   * to time.
   */
  readonly ticketKeys: Uint8Array
}

export interface PemPair {
  /** The own certificate first, then those that lead to the authority. */
  readonly cert: string | Buffer
  readonly key: string | Buffer
}
