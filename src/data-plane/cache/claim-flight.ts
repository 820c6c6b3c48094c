import type { Entry } from './entry.ts'
import type { Far } from './far.ts'
import type { Flight } from './flights.ts'

/**
 * Asks the other threads and nodes for what a flight is about to fetch. `onAnswer` comes once, with
 * whether it has been found and stored here, and whether somebody fetched it meanwhile; not at all
 * where the result is `false`.
 */
export function claimFlight(
  far: Far | undefined,
  flight: Flight,
  stale: Entry | undefined,
  onAnswer: (isFound: boolean, isAwaited: boolean) => void,
): boolean {
  if (far === undefined) return false
  return far.claim(flight.key, stale?.bornMs ?? Number.NEGATIVE_INFINITY, (item, isAwaited) => {
    // Before anything else: whoever ends the flight now must tell the others.
    flight.isClaimed = item === undefined
    if (flight.isClaimed && flight.isOver) far.settle(flight.key, 'abandoned', [])
    onAnswer(item !== undefined, isAwaited)
  })
}
