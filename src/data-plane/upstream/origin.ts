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
  /** PEM of our own certificate and its key, for targets that ask for one. */
  readonly cert: string | undefined
  readonly key: string | undefined
  /** Spoken to by HTTP/2, and by nothing else. */
  readonly isHttp2: boolean
}

export interface OriginOptions {
  readonly ca?: string | undefined
  readonly cert?: string | undefined
  readonly key?: string | undefined
  readonly servername?: string | undefined
  readonly isHttp2?: boolean
}

/** What TLS needs beside the address and the name; nothing is there that does not differ from the usual. */
export function toTlsOptions({ ca, cert, key }: Origin): { ca?: string; cert?: string; key?: string } {
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined || key === undefined ? {} : { cert, key }),
  }
}

export function parseOrigin(url: string, options: OriginOptions = {}): Origin {
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
    servername: options.servername ?? (isIP(hostname) === 0 ? hostname : ''),
    ca: options.ca,
    cert: options.cert,
    key: options.key,
    isHttp2: options.isHttp2 ?? false,
  }
}
