import type {
  Target,
  TunnelStream,
  UpgradedSocket,
  UpstreamHandler,
  UpstreamRequest,
  UpstreamStream,
} from '../../ports/transport.ts'
import { createReadBuffer } from '../http1/read-buffer.ts'
import { ResponseParser } from '../http1/response-parser.ts'
import { WriteRoom } from '../http1/write-room.ts'
import { TimerWheel } from '../timer-wheel.ts'
import { ANSWER_HEAD_BYTES_MAX } from './failures.ts'
import type { Origin } from './origin.ts'
import { Permits } from './permits.ts'
import { RawCall, type RawCallDeps } from './raw-call.ts'
import { RawPool } from './raw-pool.ts'

const ANSWER_FIELDS_MAX = 1000

/** What the raw targets of one thread share. */
export interface RawUpstreamDeps {
  readonly timers: TimerWheel
  readonly parser: ResponseParser
  readonly readBuffer: Buffer
  readonly room: WriteRoom
}

export function createRawUpstreamDeps(): RawUpstreamDeps {
  return {
    timers: new TimerWheel(),
    parser: new ResponseParser({ headBytesMax: ANSWER_HEAD_BYTES_MAX, fieldsMax: ANSWER_FIELDS_MAX }),
    readBuffer: createReadBuffer(),
    room: new WriteRoom(),
  }
}

/** A target spoken to with our own framing, over plain sockets or TLS. Opens no connection yet. */
export class RawTarget implements Target {
  readonly host: string
  readonly #deps: RawCallDeps

  constructor(origin: Origin, connectionsMax: number, { timers, parser, readBuffer, room }: RawUpstreamDeps) {
    this.host = origin.authority
    const pool = new RawPool({ origin, timers, readBuffer, room })
    this.#deps = { pool, parser, permits: new Permits(connectionsMax) }
  }

  send(request: UpstreamRequest, handler: UpstreamHandler): UpstreamStream {
    const call = new RawCall(this.#deps, request, handler, undefined)
    this.#deps.permits.acquire(call)
    return call
  }

  openTunnel(request: UpstreamRequest, client: UpgradedSocket, handler: UpstreamHandler): TunnelStream {
    const call = new RawCall(this.#deps, request, handler, client)
    call.onPermit()
    return call
  }

  async close(): Promise<void> {
    this.#deps.pool.close()
    await this.#deps.permits.whenIdle()
  }
}
