import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

type Address = ReturnType<typeof ipaddr.parse>

/** Ranges of IP addresses, compiled; each thread has its own. */
export interface AddressRanges {
  readonly ranges: readonly { readonly address: Address; readonly bits: number }[]
  /** Whether an address lies within, by its text. Emptied when it is full. */
  readonly known: Map<string, boolean>
}

const KNOWN_MAX = 4096

/** Throws where a range is not a CIDR; the configuration has made sure that each is one. */
export function compileRanges(cidrs: readonly string[]): AddressRanges {
  return { ranges: cidrs.map(compileRange), known: new Map() }
}

/** Ranges of IPv4 that are written as mapped IPv6 mean IPv4: addresses are compared as such. */
function compileRange(cidr: string): { address: Address; bits: number } {
  const [address, bits] = ipaddr.parseCIDR(cidr)
  const isMapped = address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() && bits >= 96
  return isMapped ? { address: address.toIPv4Address(), bits: bits - 96 } : { address, bits }
}

/** Whether an address lies in one of the ranges, v4-mapped IPv6 as IPv4; no address lies in none. */
export function isWithin(ranges: AddressRanges, text: string): boolean {
  const known = ranges.known.get(text)
  if (known !== undefined) return known
  const result = findRange(ranges, text)
  if (ranges.known.size >= KNOWN_MAX) ranges.known.clear()
  ranges.known.set(text, result)
  return result
}

function findRange({ ranges }: AddressRanges, text: string): boolean {
  const bare = text.includes('%') ? text.slice(0, text.indexOf('%')) : text
  if (isIP(bare) === 0) return false
  const address = ipaddr.process(bare)
  for (const range of ranges) {
    if (range.address.kind() === address.kind() && address.match(range.address, range.bits)) return true
  }
  return false
}
