import type { GatewayErrorCode } from '../../domain/errors.ts'
import type { RawFields, Recollection, UpstreamFailure } from '../../ports/transport.ts'
import type { CacheUse, Exchange } from '../exchange.ts'
import type { RawHeaders } from '../raw-headers.ts'
import { TAG_FIELDS } from './tags.ts'

/** A part of the cache between an exchange and its upstream: hears everything and passes it on. */
export class PassingUse implements CacheUse {
  readonly exchange: Exchange
  rawHeaders: RawFields

  constructor(exchange: Exchange) {
    this.exchange = exchange
    this.rawHeaders = exchange.client.rawHeaders
  }

  resume(): void {}
  finish(): void {}
  rescue(_code: GatewayErrorCode): boolean {
    return false
  }
  onUpstreamReady(): void {
    this.exchange.onUpstreamReady()
  }
  onUpstreamDrain(): void {
    this.exchange.onUpstreamDrain()
  }
  onInformation(status: number, fields: RawFields): void {
    this.exchange.onInformation(status, fields)
  }
  onAnswerHead(status: number, fields: RawFields, recollection?: Recollection): void {
    this.exchange.onAnswerHead(status, fields, recollection)
  }
  onAnswerChunk(chunk: Uint8Array): void {
    this.exchange.onAnswerChunk(chunk)
  }
  onAnswerEnd(trailers: RawFields): void {
    this.exchange.onAnswerEnd(trailers)
  }
  onUpstreamFailure(failure: UpstreamFailure): void {
    this.exchange.onUpstreamFailure(failure)
  }
  onSwitch(fields: RawFields): string[] {
    return this.exchange.onSwitch(fields)
  }
  onTunnelEnd(bytesIn: number, bytesOut: number): void {
    this.exchange.onTunnelEnd(bytesIn, bytesOut)
  }
}

/** Fields of the upstream for the client: without those for caches, and with what this one did. */
export function toClientFields(rawHeaders: RawHeaders, status: string): string[] {
  const fields: string[] = []
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? ''
    if (!TAG_FIELDS.has(name.toLowerCase())) fields.push(name, rawHeaders[i + 1] ?? '')
  }
  if (status !== '') fields.push('Cache-Status', `dripgate; ${status}`)
  return fields
}
