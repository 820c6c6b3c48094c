import type { GatewayErrorCode } from '../../domain/errors.ts'
import type { RawFields, UpstreamFailure } from '../../ports/transport.ts'
import type { CacheUse } from '../exchange.ts'

/** A part of the cache in an exchange that hears nothing of any upstream. */
export class SilentUse implements CacheUse {
  readonly rawHeaders: RawFields = []
  resume(): void {}
  finish(): void {}
  rescue(_code: GatewayErrorCode): boolean {
    return false
  }
  onUpstreamReady(): void {}
  onUpstreamDrain(): void {}
  onInformation(_status: number, _fields: RawFields): void {}
  onAnswerHead(_status: number, _fields: RawFields): void {}
  onAnswerChunk(_chunk: Uint8Array): void {}
  onAnswerEnd(_trailers: RawFields): void {}
  onUpstreamFailure(_failure: UpstreamFailure): void {}
  onSwitch(_fields: RawFields): string[] {
    return []
  }
  onTunnelEnd(_bytesIn: number, _bytesOut: number): void {}
}
