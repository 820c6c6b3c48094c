/**
 * Gives one text of `length` characters after another, each a slice of a longer one that `draw` makes:
 * so the work is done for many at once, and nothing is copied.
 */
export function createSlices(length: number, draw: () => string): () => string {
  let drawn = ''
  let at = 0

  return () => {
    if (at === drawn.length) {
      drawn = draw()
      at = 0
    }
    at += length
    return drawn.slice(at - length, at)
  }
}
