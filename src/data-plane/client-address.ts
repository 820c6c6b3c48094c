import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'
import { type AddressRanges, isWithin } from './address-ranges.ts'
import { joinFields, type RawHeaders, trimBlanks } from './raw-headers.ts'

export interface ClientAddress {
  /** Where the request started, as far as trusted proxies tell; v4-mapped IPv6 is written as IPv4. */
  readonly address: string
  /** The other end of the connection, written likewise. */
  readonly peer: string
  readonly isPeerTrusted: boolean
}

const ADDRESS_LENGTH_MAX = 56
const MAPPED_PREFIX = '::ffff:'
const LIST_MAX = 256

/**
 * Walks `X-Forwarded-For` from the right, from the peer on, as long as it meets trusted proxies;
 * the first other address is the client. What a client wrote itself is further left and is never
 * reached. An entry that is no address ends the walk at the proxy that reported it.
 */
export function resolveClientAddress(
  trusted: AddressRanges,
  peerAddress: string,
  rawHeaders: RawHeaders,
): ClientAddress {
  const peer = toPlainAddress(peerAddress)
  const isPeerTrusted = trusted.ranges.length > 0 && isWithin(trusted, peer)
  if (!isPeerTrusted) return { address: peer, peer, isPeerTrusted }
  return { address: walkBack(trusted, peer, joinFields(rawHeaders, 'x-forwarded-for')), peer, isPeerTrusted }
}

function walkBack(trusted: AddressRanges, peer: string, list: string): string {
  let address = peer
  let end = list.length
  for (let hops = 0; hops < LIST_MAX && end > 0; hops++) {
    const comma = list.lastIndexOf(',', end - 1)
    const entry = parseEntry(trimBlanks(list, comma + 1, end))
    if (entry === undefined) return address
    address = entry
    if (!isWithin(trusted, address)) return address
    end = comma
  }
  return address
}

/** Takes an address, in brackets and with a port or without. */
function parseEntry(text: string): string | undefined {
  if (text.length > ADDRESS_LENGTH_MAX) return undefined
  const bracket = text.charAt(0) === '[' ? text.indexOf(']') : -1
  const colon = text.indexOf(':')
  let bare = text
  if (bracket > 0) bare = text.slice(1, bracket)
  else if (colon >= 0 && colon === text.lastIndexOf(':')) bare = text.slice(0, colon)
  return isIP(bare) === 0 || bare.includes('%') ? undefined : ipaddr.process(bare).toString()
}

/** `::ffff:192.0.2.1`, as listeners for both families report IPv4 peers, without its prefix. */
function toPlainAddress(text: string): string {
  return text.startsWith(MAPPED_PREFIX) && text.includes('.') ? text.slice(MAPPED_PREFIX.length) : text
}
