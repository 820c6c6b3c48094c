import type { Exchange } from '../exchange.ts'
import type { Flight, FlightEnd, Waiter } from './flights.ts'
import { SilentUse } from './silent-use.ts'

const WAIT_MS_MAX = 5_000

/** What a request goes on with when its waiting is over: also if it has waited long enough. */
export type AfterFlight = (end: FlightEnd | 'late') => void

/** A request that waits for an answer which another one fetches. */
export class Waiting extends SilentUse implements Waiter {
  readonly #exchange: Exchange
  readonly #flight: Flight
  readonly #goOn: AfterFlight
  readonly #timer: NodeJS.Timeout

  constructor(exchange: Exchange, flight: Flight, goOn: AfterFlight) {
    super()
    this.#exchange = exchange
    this.#flight = flight
    this.#goOn = goOn
    this.#timer = setTimeout(() => this.#leave('late'), WAIT_MS_MAX)
  }

  onFlightEnd(end: FlightEnd): void {
    this.#leave(end)
  }

  override finish(): void {
    clearTimeout(this.#timer)
    this.#flight.waiters.delete(this)
  }

  #leave(end: FlightEnd | 'late'): void {
    this.finish()
    if (this.#exchange.isOver || this.#exchange.isAnswerBegun) return
    this.#exchange.cacheUse = undefined
    this.#goOn(end)
  }
}

/** A request that waits to hear whether another thread or node has its answer. */
export class Asking extends SilentUse {
  readonly #exchange: Exchange
  readonly #flight: Flight

  constructor(exchange: Exchange, flight: Flight) {
    super()
    this.#exchange = exchange
    this.#flight = flight
  }

  override finish(): void {
    this.#exchange.deps.cache.flights.end(this.#flight, 'abandoned')
  }
}
