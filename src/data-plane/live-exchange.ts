import type {
  ClientFault,
  ClientHandler,
  RawFields,
  Recollection,
  UpstreamFailure,
  UpstreamHandler,
} from '../ports/transport.ts'
import { ExchangeState } from './exchange.ts'
import { handleFailure } from './forward.ts'
import { noteAnswer } from './outcomes.ts'
import * as relay from './relay.ts'

/** An exchange with its ears: what happens on either side arrives here and is handed on. */
export class LiveExchange extends ExchangeState implements ClientHandler, UpstreamHandler {
  // The client's side.

  onBodyChunk(chunk: Uint8Array): void {
    this.bytesIn += chunk.length
    const { stream, route } = this
    if (stream === undefined || route === undefined) return
    if (this.bytesIn > route.bodyBytesMax) relay.refuse(this, 'body_too_large')
    else if (!stream.writeBody(chunk)) this.client.pauseBody()
  }

  onBodyEnd(trailers: RawFields): void {
    relay.passRequestTrailers(this, trailers)
  }

  onClientDrain(): void {
    this.stream?.resume()
    this.cacheUse?.resume()
  }

  onClientFault(code: ClientFault): void {
    relay.refuse(this, code)
  }

  onClientGone(): void {
    this.aborted = this.isAnswerBegun
    this.abandonUpstream()
    this.finish()
  }

  onAnswerSent(): void {
    this.finish()
  }

  onGoAway(): void {
    this.tunnel?.goAway()
  }

  // The upstream's side.

  onUpstreamReady(): void {
    this.hasBodyStarted = true
    this.client.startBody()
  }

  onUpstreamDrain(): void {
    this.client.resumeBody()
  }

  onInformation(status: number, fields: RawFields): void {
    this.hasInformed = true
    relay.passInformation(this, status, fields)
  }

  onAnswerHead(status: number, fields: RawFields, recollection?: Recollection): void {
    noteAnswer(this, status)
    relay.beginAnswer(this, status, fields, recollection)
  }

  onAnswerChunk(chunk: Uint8Array): void {
    this.bytesOut += chunk.length
    if (!this.client.sendChunk(chunk)) this.stream?.pause()
  }

  onAnswerEnd(trailers: RawFields): void {
    this.leaveUpstream()
    relay.endAnswer(this, trailers)
  }

  onUpstreamFailure(failure: UpstreamFailure): void {
    handleFailure(this, failure)
  }

  onSwitch(fields: RawFields): string[] {
    noteAnswer(this, 101)
    return relay.beginTunnel(this, fields)
  }

  onTunnelEnd(bytesIn: number, bytesOut: number): void {
    this.bytesIn = bytesIn
    this.bytesOut = bytesOut
    this.leaveUpstream()
    this.finish()
  }
}
