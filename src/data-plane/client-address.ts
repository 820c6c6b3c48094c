import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'
import { joinFields, type RawHeaders, trimBlanks } from './raw-headers.ts'

type Address = ReturnType<typeof ipaddr.parse>

/** The proxies in front whose word counts, compiled; one per thread. */
export interface TrustedProxies {
  readonly ranges: readonly { readonly address: Address; readonly bits: number }[]
  /** Whether an address is trusted, by its text. Emptied when it is full. */
  readonly known: Map<string, boolean>
}

export interface ClientAddress {
  /** Where the request started, as far as trusted proxies tell; v4-mapped IPv6 is written as IPv4. */
  readonly address: string
  /** The other end of the connection, written likewise. */
  readonly peer: string
  readonly isPeerTrusted: boolean
}

const KNOWN_MAX = 4096
const ADDRESS_LENGTH_MAX = 56
const MAPPED_PREFIX = '::ffff:'
const LIST_MAX = 256

/** Throws where a range is not a CIDR; the configuration has made sure that each is one. */
export function compileTrustedProxies(cidrs: readonly string[]): TrustedProxies {
  return { ranges: cidrs.map(compileRange), known: new Map() }
}

function compileRange(cidr: string): { address: Address; bits: number } {
  const [address, bits] = ipaddr.parseCIDR(cidr)
  const isMapped = address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() && bits >= 96
  return isMapped ? { address: address.toIPv4Address(), bits: bits - 96 } : { address, bits }
}

/**
 * Walks `X-Forwarded-For` from the right, from the peer on, as long as it meets trusted proxies;
 * the first other address is the client. What a client wrote itself is further left and is never
 * reached. An entry that is no address ends the walk at the proxy that reported it.
 */
export function resolveClientAddress(
  trusted: TrustedProxies,
  peerAddress: string,
  rawHeaders: RawHeaders,
): ClientAddress {
  const peer = toPlainAddress(peerAddress)
  const isPeerTrusted = trusted.ranges.length > 0 && isTrusted(trusted, peer)
  if (!isPeerTrusted) return { address: peer, peer, isPeerTrusted }
  return { address: walkBack(trusted, peer, joinFields(rawHeaders, 'x-forwarded-for')), peer, isPeerTrusted }
}

function walkBack(trusted: TrustedProxies, peer: string, list: string): string {
  let address = peer
  let end = list.length
  for (let hops = 0; hops < LIST_MAX && end > 0; hops++) {
    const comma = list.lastIndexOf(',', end - 1)
    const entry = parseEntry(trimBlanks(list, comma + 1, end))
    if (entry === undefined) return address
    address = entry
    if (!isTrusted(trusted, address)) return address
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

function isTrusted(trusted: TrustedProxies, text: string): boolean {
  const known = trusted.known.get(text)
  if (known !== undefined) return known
  const result = isInRanges(trusted, text)
  if (trusted.known.size >= KNOWN_MAX) trusted.known.clear()
  trusted.known.set(text, result)
  return result
}

function isInRanges(trusted: TrustedProxies, text: string): boolean {
  const bare = text.includes('%') ? text.slice(0, text.indexOf('%')) : text
  if (isIP(bare) === 0) return false
  const address = ipaddr.process(bare)
  for (const range of trusted.ranges) {
    if (range.address.kind() === address.kind() && address.match(range.address, range.bits)) return true
  }
  return false
}

/** `::ffff:192.0.2.1`, as listeners for both families report IPv4 peers, without its prefix. */
function toPlainAddress(text: string): string {
  return text.startsWith(MAPPED_PREFIX) && text.includes('.') ? text.slice(MAPPED_PREFIX.length) : text
}
