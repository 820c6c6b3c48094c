import type { RawFields } from '../../ports/transport.ts'

/** A request of HTTP/2 in the form that the pipeline takes: `:authority` has become `Host`. */
export interface Http2Request {
  readonly method: string
  readonly target: string
  /** `other`: what the pseudo fields say is not a request that may be forwarded. */
  readonly httpVersion: '2.0' | 'other'
  readonly rawHeaders: string[]
  /** Of names and values, as they would stand in HTTP/1.1. */
  readonly headerBytes: number
  readonly hasContentLength: boolean
  readonly expectsContinue: boolean
}

/**
 * nghttp2 has made sure of the rest (RFC 9113 section 8): which pseudo fields there are, that each
 * is there once and first, that names are in lower case, and no field belongs to one connection.
 */
export function readHttp2Request(raw: RawFields): Http2Request {
  let method = ''
  let target = ''
  let scheme = ''
  let authority = ''
  let cookie = ''
  let headerBytes = 0
  let hasContentLength = false
  let expectsContinue = false
  const rawHeaders: string[] = []
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] ?? ''
    const value = raw[i + 1] ?? ''
    headerBytes += name.length + value.length + 4
    switch (name) {
      case ':method':
        method = value
        break
      case ':path':
        target = value
        break
      case ':scheme':
        scheme = value
        break
      case ':authority':
        authority = value
        rawHeaders.push('host', value)
        break
      case 'host':
        // One that differs stands beside the other, and two are refused.
        if (value.toLowerCase() !== authority.toLowerCase()) rawHeaders.push(name, value)
        break
      case 'cookie':
        // Crumbs are one field again (RFC 9113 section 8.2.3).
        cookie = cookie === '' ? value : `${cookie}; ${value}`
        break
      default:
        if (name === 'content-length') hasContentLength = true
        else if (name === 'expect') expectsContinue = value.toLowerCase() === '100-continue'
        rawHeaders.push(name, value)
    }
  }
  if (cookie !== '') rawHeaders.push('cookie', cookie)
  const httpVersion = isForwardable(method, target, scheme) ? '2.0' : 'other'
  return { method, target, httpVersion, rawHeaders, headerBytes, hasContentLength, expectsContinue }
}

/** CONNECT has neither path nor scheme; it is refused by its name. */
function isForwardable(method: string, target: string, scheme: string): boolean {
  if (method === 'CONNECT') return true
  const isPath = target.charCodeAt(0) === 0x2f || (target === '*' && method === 'OPTIONS')
  return isPath && (scheme === 'https' || scheme === 'http')
}
