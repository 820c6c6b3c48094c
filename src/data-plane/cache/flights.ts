/** How the fetch of an answer ended. */
export type FlightEnd =
  /** There is a new answer in the store. */
  | 'stored'
  /** There is an answer, but nobody else may have it. */
  | 'unstorable'
  /** The upstream gave none. */
  | 'failed'
  /** The one who fetched it left. */
  | 'abandoned'

export interface Waiter {
  onFlightEnd(end: FlightEnd): void
}

/** One request on its way to the upstream whose answer others wait for. */
export class Flight {
  readonly key: string
  readonly waiters = new Set<Waiter>()
  /** Other threads wait for it as well. */
  isClaimed = false
  isOver = false
  /** Keys under which something was stored. */
  stored: readonly string[] = []

  constructor(key: string) {
    this.key = key
  }
}

const WAITERS_MAX = 4096

/** The flights of one thread: one for each key at a time. */
export class Flights {
  readonly #flights = new Map<string, Flight>()
  readonly #onEnd: (flight: Flight, end: FlightEnd) => void

  /** `onEnd` hears of the end before those who wait. */
  constructor(onEnd: (flight: Flight, end: FlightEnd) => void) {
    this.#onEnd = onEnd
  }

  /** Requests that wait now. */
  get waiting(): number {
    let total = 0
    for (const flight of this.#flights.values()) total += flight.waiters.size
    return total
  }

  find(key: string): Flight | undefined {
    return this.#flights.get(key)
  }

  begin(key: string): Flight {
    const flight = new Flight(key)
    this.#flights.set(key, flight)
    return flight
  }

  /** `false`: enough others wait already. */
  join(flight: Flight, waiter: Waiter): boolean {
    if (flight.waiters.size >= WAITERS_MAX) return false
    flight.waiters.add(waiter)
    return true
  }

  /** Tells those who wait, in the order in which they came. Later calls do nothing. */
  end(flight: Flight, end: FlightEnd): void {
    if (this.#flights.get(flight.key) !== flight) return
    this.#flights.delete(flight.key)
    flight.isOver = true
    this.#onEnd(flight, end)
    for (const waiter of flight.waiters) waiter.onFlightEnd(end)
  }
}
