/** What a data-plane thread counts: one cell each, in memory that the control thread reads. Only that thread writes. */
export interface Figures<Figure extends string> {
  add(figure: Figure, amount: number): void
  set(figure: Figure, value: number): void
}

/** `cells` has at least as many cells as there are names. */
export function createFigures<Figure extends string>(
  names: readonly Figure[],
  cells: Float64Array,
): Figures<Figure> {
  const places = new Map(names.map((name, index) => [name, index]))
  return {
    add(figure, amount) {
      const place = places.get(figure) ?? 0
      cells[place] = (cells[place] ?? 0) + amount
    },
    set(figure, value) {
      cells[places.get(figure) ?? 0] = value
    },
  }
}
