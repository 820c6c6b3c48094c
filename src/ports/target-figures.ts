/** What is known of an upstream and its targets, for metrics. Counters start when it is first configured. */
export interface UpstreamFigures {
  readonly name: string
  readonly isCircuitOpen: boolean
  readonly circuitOpenings: number
  readonly retries: number
  /** Retries that the budget did not allow. */
  readonly retriesRefused: number
  /** By position in the configuration. */
  readonly targets: readonly TargetFigures[]
}

/** Numbers of addresses; all zero while the name of a target cannot be resolved. */
export interface TargetFigures {
  readonly up: number
  /** Left out because requests failed. */
  readonly ejected: number
  /** The active checks say so. */
  readonly down: number
  /** Of the present addresses, so far. */
  readonly ejections: number
}
