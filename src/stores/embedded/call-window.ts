import { CALL_WINDOW_MS, type CallTurn, type CallWindow } from '../../ports/call-window.ts'
import type { Clock } from '../../ports/runtime.ts'

/** The window of a store that only one process uses: in the memory of the control thread. */
export function createCallWindow(clock: Clock): CallWindow {
  /** When calls were let through, oldest first. */
  const passes = new Map<string, number[]>()
  let sweptAt = clock.bucketMs()

  function dropOld(times: number[], nowMs: number): void {
    const inside = times.findIndex((at) => nowMs - at <= CALL_WINDOW_MS)
    times.splice(0, inside === -1 ? times.length : inside)
  }

  function sweep(nowMs: number): void {
    if (nowMs - sweptAt <= CALL_WINDOW_MS) return
    sweptAt = nowMs
    for (const [caller, times] of passes) {
      dropOld(times, nowMs)
      if (times.length === 0) passes.delete(caller)
    }
  }

  return {
    async enter(caller, limit): Promise<CallTurn> {
      const nowMs = clock.bucketMs()
      sweep(nowMs)
      const times = passes.get(caller) ?? []
      dropOld(times, nowMs)
      const oldest = times.at(-limit)
      if (oldest !== undefined) return { kind: 'denied', retryAfterMs: oldest + CALL_WINDOW_MS + 1 - nowMs }
      times.push(nowMs)
      passes.set(caller, times)
      return { kind: 'passed' }
    },
  }
}
