import { isIP } from 'node:net'

/** Everything that is known of a target before the first connection. */
export interface Origin {
  /** `http://host` or `http://host:port`. */
  readonly url: string
  readonly isTls: boolean
  /** Without brackets. */
  readonly hostname: string
  /** What is connected to: one of the addresses of the host, or its name where none is known. */
  readonly address: string
  readonly port: number
  /** As in a Host field. */
  readonly authority: string
  /** The name to ask for (SNI) and to verify; empty for a target named by its address. */
  readonly servername: string
  /** PEM of the authorities to trust instead of the usual ones. */
  readonly ca: string | undefined
}

export function parseOrigin(
  url: string,
  tls: { readonly ca?: string | undefined; readonly servername?: string | undefined } = {},
): Origin {
  const parsed = new URL(url)
  const isTls = parsed.protocol === 'https:'
  const hostname = parsed.hostname.replace(/^\[(.*)\]$/, '$1')
  return {
    url: parsed.origin,
    isTls,
    hostname,
    address: hostname,
    port: parsed.port === '' ? (isTls ? 443 : 80) : Number(parsed.port),
    authority: parsed.host,
    servername: tls.servername ?? (isIP(hostname) === 0 ? hostname : ''),
    ca: tls.ca,
  }
}
