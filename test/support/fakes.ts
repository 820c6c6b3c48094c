import type { Clock, LogFields, Logger } from '../../src/ports/runtime.ts'

/** A clock that stands still until it is moved. */
export class FakeClock implements Clock {
  now: number

  constructor(now = 1_700_000_000_000) {
    this.now = now
  }

  bucketMs(): number {
    return this.now
  }

  wallMs(): number {
    return this.now
  }
}

export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly message: string
  readonly fields: LogFields
}

/** A logger that keeps its lines. */
export function createFakeLogger(): Logger & { readonly lines: LogLine[] } {
  const lines: LogLine[] = []
  const at =
    (level: LogLine['level']) =>
    (message: string, fields: LogFields = {}) =>
      void lines.push({ level, message, fields })
  return { lines, debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}
