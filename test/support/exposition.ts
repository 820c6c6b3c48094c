/** What one or more `/metrics` held: every metric with the values of its labels. */
export interface Exposition {
  /** Names as in `# TYPE`, also of those that have no sample yet, with their types. */
  readonly families: ReadonlyMap<string, string>
  /** Names of samples (`x_bucket`, `x_count`, …) → label → values. */
  readonly samples: ReadonlyMap<string, ReadonlyMap<string, ReadonlySet<string>>>
}

/** Fails on any line that is neither a comment nor a sample. */
export function parseExposition(...texts: readonly string[]): Exposition {
  const families = new Map<string, string>()
  const samples = new Map<string, Map<string, Set<string>>>()
  for (const line of texts.join('\n').split('\n')) {
    const [, family = '', type = ''] = /^# TYPE (\S+) (\S+)$/.exec(line) ?? []
    if (family !== '') families.set(family, type)
    if (line === '' || line.startsWith('#')) continue
    const [, name, labels = ''] = /^([A-Za-z_:][\w:]*)(?:\{(.*?)\})? (?:\S+)(?: # .*)?$/.exec(line) ?? []
    if (name === undefined) throw new Error(`not a sample: ${line}`)
    const known = samples.get(name) ?? new Map<string, Set<string>>()
    samples.set(name, known)
    for (const [, label = '', value = ''] of labels.matchAll(/([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"/g)) {
      known.set(label, (known.get(label) ?? new Set()).add(value))
    }
  }
  return { families, samples }
}
