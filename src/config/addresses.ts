import { isIP, isIPv4, isIPv6 } from 'node:net'
import { z } from 'zod'

interface ListenAddress {
  /** An IP address without brackets, or a host name. */
  readonly host: string
  /** 0 asks the system for any free port. */
  readonly port: number
}

const LISTEN_HINT = 'must be an address such as 127.0.0.1:8080, [::1]:8080 or :8080'
const TARGET_HINT = 'must be an origin such as http://127.0.0.1:9000 or https://orders.internal'
const CIDR_HINT = 'must be an address range such as 10.0.0.0/8 or fd00::/8'
const DNS_SERVER_HINT = 'must be an address such as 10.0.0.53, 127.0.0.1:5353 or [fd00::53]:53'
const HOST_NAME = /^(?!-)[A-Za-z0-9-]{1,63}(\.(?!-)[A-Za-z0-9-]{1,63})*$/

/** Takes `HOST:PORT`, with IPv6 in brackets; an empty host is 0.0.0.0. */
export function listenField() {
  return textField(LISTEN_HINT).transform((text, ctx): { host: string; port: number } => {
    const address = parseListenAddress(text)
    if (address !== undefined) return { ...address }
    ctx.addIssue(LISTEN_HINT)
    return z.NEVER
  })
}

/** Takes an http or https URL without path, query and credentials; gives its origin. */
export function targetField() {
  return textField(TARGET_HINT).transform((text, ctx) => {
    const problem = findTargetProblem(text)
    if (problem === undefined) return new URL(text).origin
    ctx.addIssue(problem)
    return z.NEVER
  })
}

/** Takes a CIDR or a single address; gives a CIDR. */
export function cidrField() {
  return textField(CIDR_HINT).transform((text, ctx) => {
    const cidr = parseCidr(text)
    if (cidr !== undefined) return cidr
    ctx.addIssue(CIDR_HINT)
    return z.NEVER
  })
}

/** Takes an IP address, with a port if need be; IPv6 with a port in brackets. */
export function dnsServerField() {
  return textField(DNS_SERVER_HINT).refine(isDnsServer, { error: DNS_SERVER_HINT })
}

function isDnsServer(text: string): boolean {
  if (isIP(text) !== 0 && !text.includes('%')) return true
  const colon = text.lastIndexOf(':')
  const port = text.slice(colon + 1)
  if (colon < 0 || !/^\d{1,5}$/.test(port) || Number(port) === 0 || Number(port) > 65_535) return false
  const host = text.slice(0, colon)
  return isIPv4(host) || (host.startsWith('[') && host.endsWith(']') && isIPv6(host.slice(1, -1)))
}

/** Whoever writes a bare port is told the whole form, not that a number is no text. */
function textField(hint: string) {
  return z.string({ error: ({ input }) => (typeof input === 'number' ? hint : undefined) })
}

export function parseListenAddress(text: string): ListenAddress | undefined {
  const colon = text.lastIndexOf(':')
  const digits = text.slice(colon + 1)
  if (colon < 0 || !/^\d{1,5}$/.test(digits) || Number(digits) > 65_535) return undefined
  const host = parseListenHost(text.slice(0, colon))
  return host === undefined ? undefined : { host, port: Number(digits) }
}

function parseListenHost(text: string): string | undefined {
  if (text === '') return '0.0.0.0'
  if (text.startsWith('[') && text.endsWith(']')) {
    const inner = text.slice(1, -1)
    return isIPv6(inner) ? inner : undefined
  }
  if (isIPv4(text)) return text
  // A name whose last label is a number is a mistyped IPv4 address.
  return isHostName(text) && !/(^|\.)\d+$/.test(text) ? text : undefined
}

/** Up to 253 characters of letters, digits and inner hyphens, in labels joined by dots. */
export function isHostName(text: string): boolean {
  return text.length <= 253 && HOST_NAME.test(text) && !/-(\.|$)/.test(text)
}

function findTargetProblem(text: string): string | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^https?:\/\/[^/\\\s]/i.test(text)) return TARGET_HINT
  if (url.username !== '' || url.password !== '' || text.includes('@')) {
    return 'must not hold credentials; set a header on the route instead'
  }
  if (/^https?:\/\/[^/?#]*\/?$/i.test(text)) return undefined
  return 'must be an origin only: no path, query or fragment may follow the port'
}

function parseCidr(text: string): string | undefined {
  const [address = '', bits, ...rest] = text.split('/')
  const family = address.includes('%') ? 0 : isIP(address)
  if (family === 0 || rest.length > 0) return undefined
  const bitsMax = family === 4 ? 32 : 128
  if (bits === undefined) return `${address}/${bitsMax}`
  return /^\d{1,3}$/.test(bits) && Number(bits) <= bitsMax ? text : undefined
}
