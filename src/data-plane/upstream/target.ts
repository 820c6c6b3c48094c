import type {
  Target,
  TunnelStream,
  UpgradedSocket,
  UpstreamHandler,
  UpstreamRequest,
  UpstreamStream,
} from '../../ports/transport.ts'
import { type ChunkedAgent, ChunkedCall, createChunkedAgent } from './node-http.ts'
import { Http2Target } from './node-http2.ts'
import type { Origin } from './origin.ts'
import { Permits } from './permits.ts'
import { RawTarget, type RawUpstreamDeps } from './raw-http1.ts'
import { UndiciCall, UndiciPool } from './undici.ts'
import { openTunnel } from './web-socket.ts'

export interface TargetOptions {
  readonly origin: Origin
  /** Most requests in flight; more wait for at most their connect timeout. */
  readonly connectionsMax: number
  /** The longest connect timeout that any request will ask for. */
  readonly connectMsMax: number
  /** Where it is there, the target is spoken to by our own client instead of Node's and undici. */
  readonly raw: RawUpstreamDeps | undefined
}

/** Opens no connection yet. */
export function createTarget(options: TargetOptions): Target {
  const { origin, connectionsMax, raw } = options
  if (origin.isHttp2) return new Http2Target(origin, connectionsMax)
  return raw === undefined ? new HttpTarget(options) : new RawTarget(origin, connectionsMax, raw)
}

class HttpTarget implements Target {
  readonly host: string
  readonly #origin: Origin
  readonly #permits: Permits
  readonly #pool: UndiciPool
  readonly #agent: ChunkedAgent

  constructor({ origin, connectionsMax, connectMsMax }: TargetOptions) {
    this.host = origin.authority
    this.#origin = origin
    this.#permits = new Permits(connectionsMax)
    this.#pool = new UndiciPool(origin, connectMsMax)
    this.#agent = createChunkedAgent(origin, connectionsMax)
  }

  send(request: UpstreamRequest, handler: UpstreamHandler): UpstreamStream {
    const call = request.isChunked
      ? new ChunkedCall(this.#origin, this.#agent, this.#permits, request, handler)
      : new UndiciCall(this.#pool, this.#permits, request, handler)
    this.#permits.acquire(call)
    return call
  }

  openTunnel(request: UpstreamRequest, client: UpgradedSocket, handler: UpstreamHandler): TunnelStream {
    return openTunnel(this.#origin, request, client, handler)
  }

  async close(): Promise<void> {
    this.#pool.close()
    await this.#permits.whenIdle()
    this.#agent.destroy()
  }
}
