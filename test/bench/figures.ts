/** Small helpers that all benchmarks print with. */

export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5)
}

export function row(name: string, value: string): void {
  process.stdout.write(`${name.padEnd(44)} ${value}\n`)
}
