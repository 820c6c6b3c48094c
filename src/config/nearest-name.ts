/**
 * The one of `known` that was most likely meant, or `undefined` where none is near. Case and the
 * choice between "-" and "_" do not count.
 */
export function findNearestName(name: string, known: Iterable<string>): string | undefined {
  const wanted = normalise(name)
  // Longer names are no typing errors, and comparing them would take long.
  if (wanted.length > 64) return undefined
  let nearest: string | undefined
  let distanceBest = Math.max(1, Math.floor(wanted.length / 3)) + 1
  for (const candidate of known) {
    const distance = measureDistance(wanted, normalise(candidate))
    if (distance < distanceBest) {
      nearest = candidate
      distanceBest = distance
    }
  }
  return nearest
}

/** `, did you mean "x"?` or nothing: the tail of a message. */
export function suggestName(name: string, known: Iterable<string>): string {
  const nearest = findNearestName(name, known)
  return nearest === undefined ? '' : `, did you mean ${JSON.stringify(nearest)}?`
}

function normalise(name: string): string {
  return name.toLowerCase().replaceAll('-', '_')
}

/** Edits (insert, delete, replace, swap of neighbours) from one text to the other. */
function measureDistance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let cost = Math.min(at(last, j) + 1, at(row, j - 1) + 1, at(last, j - 1) + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, at(beforeLast, j - 2) + 1)
      }
      row.push(cost)
    }
    beforeLast = last
    last = row
  }
  return at(last, b.length)
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Number.POSITIVE_INFINITY
}
