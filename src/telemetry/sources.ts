export interface Source {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly collect: () => Sample[]
}

export interface Sample {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
  /** Where it is not the metric's own name. */
  readonly metricName?: string
  /** Shown in OpenMetrics only. */
  readonly exemplar?: {
    readonly labelSet: { readonly trace_id: string }
    readonly value: number
    /** In seconds. */
    readonly timestamp: number
  }
}

/** One of each data-plane thread. */
export type Regions = readonly Float64Array[]

export function sum(regions: Regions, cell: number): number {
  let total = 0
  for (const region of regions) total += region[cell] ?? 0
  return total
}
