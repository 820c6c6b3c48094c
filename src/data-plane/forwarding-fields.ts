import type { ClientAddress } from './client-address.ts'
import { parseHost } from './host.ts'
import { equalsIgnoreCase, joinFields, type RawHeaders, trimBlanks } from './raw-headers.ts'
import type { RequestHead } from './request-check.ts'

interface ForwardingInput {
  readonly head: RequestHead
  readonly rawHeaders: RawHeaders
  readonly client: ClientAddress
  readonly protocol: 'http' | 'https'
}

/** One element of `Forwarded` (RFC 7239 section 4), white space around its separators allowed. */
const FORWARDED_ELEMENT = compileForwardedElement()

/**
 * Adds `X-Forwarded-For`, `-Proto`, `-Host`, `Forwarded` and `Via`. What a trusted proxy says of
 * its client stays and grows by what we know of the proxy, unless it is malformed; what anyone else
 * says is gone. `Via` grows in any case: it concerns the protocol, nobody decides by it.
 */
export function addForwardingFields(headers: string[], input: ForwardingInput): void {
  const { head, rawHeaders, client, protocol } = input
  const isBelieved = client.isPeerTrusted
  const earlierFor = isBelieved ? joinFields(rawHeaders, 'x-forwarded-for') : ''
  const earlierProto = isBelieved ? keepList(rawHeaders, 'x-forwarded-proto', isProtocol) : ''
  const earlierHost = isBelieved ? keepList(rawHeaders, 'x-forwarded-host', isHost) : ''
  const earlierForwarded = isBelieved ? keepForwarded(rawHeaders) : ''
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

/** The fields joined, where every item of the list is sound; `''` where one is not. */
function keepList(rawHeaders: RawHeaders, lowerName: string, isSound: (item: string) => boolean): string {
  const list = joinFields(rawHeaders, lowerName)
  return list !== '' && list.split(',').every((item) => isSound(trimBlanks(item))) ? list : ''
}

function isProtocol(text: string): boolean {
  return equalsIgnoreCase(text, 'http') || equalsIgnoreCase(text, 'https')
}

function isHost(text: string): boolean {
  return parseHost(text) !== undefined
}

/** Appending to what is malformed could put our element into somebody's open quotes. */
function keepForwarded(rawHeaders: RawHeaders): string {
  const list = joinFields(rawHeaders, 'forwarded')
  let at = 0
  while (at < list.length) {
    FORWARDED_ELEMENT.lastIndex = at
    if (!FORWARDED_ELEMENT.test(list)) return ''
    at = FORWARDED_ELEMENT.lastIndex
    if (at < list.length && list.charAt(at++) !== ',') return ''
    if (at === list.length && list.endsWith(',')) return ''
  }
  return list
}

function compileForwardedElement(): RegExp {
  const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
  const quoted = '"(?:[^"\\\\]|\\\\.)*"'
  const pair = `${token}=(?:${token}|${quoted})`
  return new RegExp(`[ \\t]*${pair}(?:[ \\t]*;[ \\t]*${pair})*[ \\t]*`, 'y')
}

function appendTo(list: string, item: string): string {
  return list === '' ? item : `${list}, ${item}`
}
