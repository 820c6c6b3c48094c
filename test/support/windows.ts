/** One admission: it happened somewhere between these two instants of the machine's clock. */
export interface Admission {
  readonly sentAt: number
  readonly receivedAt: number
}

/**
 * Over all windows from one instant to another: the admissions that surely fell inside, less the
 * limit and the refills that the window can have seen. More than 0 is a broken promise. A
 * millisecond of slack on either side, as instants are whole milliseconds.
 */
export function worstExcess(
  admissions: readonly Admission[],
  bucket: {
    readonly limit: number
    readonly rate: number
    readonly intervalMs: number
    readonly anchorMs: number
  },
): number {
  const { limit, rate, intervalMs, anchorMs } = bucket
  const bySending = admissions.toSorted((a, b) => a.sentAt - b.sentAt)
  const tickOf = (at: number) => Math.floor((at - anchorMs) / intervalMs)
  // By the last tick that a window must reach to hold it, as only refills are counted.
  const ticks = bySending.map(
    ({ sentAt, receivedAt }) => [tickOf(sentAt - 1), tickOf(receivedAt + 1)] as const,
  )
  const firstTick = Math.min(...ticks.map(([from]) => from))
  const lastTick = Math.max(...ticks.map(([, to]) => to))
  let worst = Number.NEGATIVE_INFINITY
  for (let from = firstTick; from <= lastTick; from++) {
    const counts = new Map<number, number>()
    for (const [sent, received] of ticks) {
      if (sent >= from) counts.set(received, (counts.get(received) ?? 0) + 1)
    }
    let inside = 0
    for (let to = from; to <= lastTick; to++) {
      inside += counts.get(to) ?? 0
      worst = Math.max(worst, inside - limit - (to - from) * rate)
    }
  }
  return worst
}
