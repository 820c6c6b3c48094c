import type { ClientAddress } from './client-address.ts'
import { joinFields, type RawHeaders } from './raw-headers.ts'
import type { RequestHead } from './request-check.ts'

interface ForwardingInput {
  readonly head: RequestHead
  readonly rawHeaders: RawHeaders
  readonly client: ClientAddress
  readonly protocol: 'http' | 'https'
}

/**
 * Adds `X-Forwarded-For`, `-Proto`, `-Host`, `Forwarded` and `Via`. What a trusted proxy says of
 * its client stays and grows by what we know of the proxy; what anyone else says is gone. `Via`
 * grows in any case: it concerns the protocol, nobody decides by it.
 */
export function addForwardingFields(headers: string[], input: ForwardingInput): void {
  const { head, rawHeaders, client, protocol } = input
  const isBelieved = client.isPeerTrusted
  const earlierFor = isBelieved ? joinFields(rawHeaders, 'x-forwarded-for') : ''
  const earlierProto = isBelieved ? joinFields(rawHeaders, 'x-forwarded-proto') : ''
  const earlierHost = isBelieved ? joinFields(rawHeaders, 'x-forwarded-host') : ''
  const earlierForwarded = isBelieved ? joinFields(rawHeaders, 'forwarded') : ''
  const host = earlierHost === '' ? head.host : earlierHost

  headers.push('X-Forwarded-For', appendTo(earlierFor, client.peer))
  headers.push('X-Forwarded-Proto', earlierProto === '' ? protocol : earlierProto)
  if (host !== '') headers.push('X-Forwarded-Host', host)
  headers.push('Forwarded', appendTo(earlierForwarded, toForwardedElement(client.peer, head.host, protocol)))
  headers.push('Via', appendTo(joinFields(rawHeaders, 'via'), `${head.httpVersion} dripgate`))
}

/** One element of `Forwarded` (RFC 7239): IPv6 stands in brackets, and quotes enclose any colon. */
function toForwardedElement(peer: string, host: string, protocol: string): string {
  const node = peer.includes(':') ? `"[${peer}]"` : peer
  const hostPair = host === '' ? '' : `;host=${host.includes(':') ? `"${host}"` : host}`
  return `for=${node}${hostPair};proto=${protocol}`
}

function appendTo(list: string, item: string): string {
  return list === '' ? item : `${list}, ${item}`
}
