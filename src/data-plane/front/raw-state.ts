import { STATUS_CODES } from 'node:http'
import type { ClientFault, FrontHandler, WholeAnswer } from '../../ports/transport.ts'
import { encodeFields, encodeSteady } from '../http1/encode.ts'
import { TARGET_TOO_LONG, TOO_LARGE, TOO_MANY_FIELDS } from '../http1/field-section.ts'
import type { RequestParser } from '../http1/request-parser.ts'
import type { WriteRoom } from '../http1/write-room.ts'
import type { HeadLimits } from '../request-check.ts'
import type { TimerWheel } from '../timer-wheel.ts'

interface Held {
  /** Sends what waits. */
  flush(): void
}

/** What a stream needs of its connection. */
export interface RawStreamOwner {
  readonly peerAddress: string
  /** Whether the socket can take more at once. */
  write(data: string | Buffer): boolean
  arm(limitMs: number): void
  disarm(): void
  destroy(): void
  /** The exchange is over, its request read to the end or given up. */
  free(stream: { readonly closes: boolean }): void
  /** Leaves the socket to a tunnel, with what came on it in the meantime. */
  detach(): void
  /** Uses up the bytes that are there, as far as anybody wants them. */
  advance(): void
}

/** What the connections of one raw front share. */
export interface RawFrontState {
  readonly handler: FrontHandler
  readonly parser: RequestParser
  readonly headLimits: HeadLimits
  readonly timers: TimerWheel
  readonly room: WriteRoom
  /** Read into by all connections, where Node lets them. */
  readonly readBuffer: Buffer
  readonly protocol: 'http' | 'https'
  readonly headersMs: number
  readonly idleMs: number
  /** 0: none. */
  readonly bodyMs: number
  /** Least average of a request body; 0: none. */
  readonly bodyBytesPerSecondMin: number
  /** Streams with text that was not sent yet, in this turn of the event loop. */
  readonly held: Held[]
  isFlushScheduled: boolean
  /** Every answer ends its connection. */
  isDraining: boolean
  /** Connections end as soon as they have nothing to do. */
  isClosing: boolean
  dateLine: string
  dateSecond: number
}

export const CLOSE = 'Connection: close\r\n'

const STATUS_LINES = new Map(
  Object.entries(STATUS_CODES).map(([status, reason]) => [
    Number(status),
    `HTTP/1.1 ${status} ${reason}\r\n`,
  ]),
)

/** Throws where the status has not three digits. */
export function toStatusLine(status: number): string {
  const line = STATUS_LINES.get(status)
  if (line !== undefined) return line
  if (!Number.isInteger(status) || status < 100 || status > 999) throw new RangeError('no such status')
  return `HTTP/1.1 ${status} Unknown\r\n`
}

export function toDateLine(state: RawFrontState): string {
  const second = Math.floor(Date.now() / 1000)
  if (second !== state.dateSecond) {
    state.dateSecond = second
    state.dateLine = `Date: ${new Date(second * 1000).toUTCString()}\r\n`
  }
  return state.dateLine
}

export function encodeWhole(state: RawFrontState, answer: WholeAnswer, closes: boolean): string {
  const { status, steady, fresh, body } = answer
  const fields = encodeSteady(steady).text + encodeFields(fresh)
  return `${toStatusLine(status)}${fields}${toDateLine(state)}${closes ? CLOSE : ''}\r\n${body}`
}

/** What a client is told when the parser gave up for this reason. */
export function toFault(reason: number): ClientFault {
  switch (reason) {
    case TARGET_TOO_LONG:
      return 'uri_too_long'
    case TOO_LARGE:
    case TOO_MANY_FIELDS:
      return 'headers_too_large'
    default:
      return 'bad_request'
  }
}

/** Has the stream's text sent at the end of this turn, all of it in one piece. */
export function hold(state: RawFrontState, stream: Held): void {
  state.held.push(stream)
  if (state.isFlushScheduled) return
  state.isFlushScheduled = true
  setImmediate(flushHeld, state)
}

function flushHeld(state: RawFrontState): void {
  state.isFlushScheduled = false
  for (const stream of state.held.splice(0)) stream.flush()
}
