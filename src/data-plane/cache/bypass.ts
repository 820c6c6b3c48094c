import type { RawFields } from '../../ports/transport.ts'
import type { Exchange } from '../exchange.ts'
import { PassingUse, toClientFields } from './passing-use.ts'
import { isSafe } from './rules.ts'
import { listChangedMarks } from './tags.ts'

/**
 * A request that the cache leaves alone. If it is unsafe and succeeds, what is stored under its URL
 * is out of date from the moment on in which the client hears of it (RFC 9111 section 4.4).
 */
export class Bypass extends PassingUse {
  readonly #status: string

  /** `status` is for `Cache-Status`; `''` says nothing. */
  constructor(exchange: Exchange, status: string) {
    super(exchange)
    this.#status = status
  }

  override onAnswerHead(status: number, fields: RawFields): void {
    const { exchange } = this
    if (!isSafe(exchange.method) && status >= 200 && status < 400) {
      const { counters, figures, far } = exchange.deps.cache
      const marks = listChangedMarks(exchange, fields)
      counters.raise(marks)
      far?.outdate(marks)
      figures.add('invalidations', 1)
    }
    exchange.onAnswerHead(status, toClientFields(fields, this.#status))
  }
}
