import type { TlsMaterial } from '../../ports/tls.ts'
import type { FrontHandler } from '../../ports/transport.ts'
import type { HeadLimits } from '../request-check.ts'
import type { Http2CutOff } from './http2-guard.ts'

/** What both fronts are opened with. */
export interface FrontOptions {
  readonly handler: FrontHandler
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  readonly reusePort: boolean
  /** Absent: plain HTTP. */
  readonly tls: TlsMaterial | undefined
  /** Whether clients may choose HTTP/2, where there is TLS. */
  readonly http2: boolean
  /** The pipeline checks them; the parser only keeps what it needs for that. */
  readonly headLimits: HeadLimits
  readonly headerBytesMax: number
  readonly headersTimeoutMs: number
  readonly idleTimeoutMs: number
  /** 0: none. */
  readonly bodyTimeoutMs: number
  /** Least average of a request body; 0: none. */
  readonly bodyBytesPerSecondMin: number
  /** Told +1 for each connection that opens, -1 when it closes. */
  readonly onConnections: (change: number) => void
  /** Told why a connection of HTTP/2 was cut off. */
  readonly onCutOff: (reason: Http2CutOff) => void
}
