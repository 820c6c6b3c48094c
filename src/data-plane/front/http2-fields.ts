import type { OutgoingHttpHeaders } from 'node:http2'
import type { RawFields } from '../../ports/transport.ts'

/** Fields that HTTP/2 has frames for, or no use (RFC 9113 section 8.2.2). */
const FORBIDDEN: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
])

/** Status and fields of an answer as node:http2 takes them. Throws where they are unfit for the wire. */
export function toResponseFields(status: number, fields: readonly string[]): string[] {
  if (!Number.isInteger(status) || status < 200 || status > 599) throw new RangeError('no such status')
  const list = [':status', String(status)]
  for (let i = 0; i < fields.length; i += 2) {
    const name = toFieldName(fields[i] ?? '')
    list.push(name, assertValue(fields[i + 1] ?? ''))
  }
  return list
}

/** The same for trailers and informational answers. */
export function toTrailerFields(fields: RawFields): OutgoingHttpHeaders {
  const found: Record<string, string | string[]> = Object.create(null)
  for (let i = 0; i < fields.length; i += 2) {
    const name = toFieldName(fields[i] ?? '')
    const value = assertValue(fields[i + 1] ?? '')
    const before = found[name]
    if (before === undefined) found[name] = value
    else found[name] = typeof before === 'string' ? [before, value] : [...before, value]
  }
  return found
}

/** As field names stand in HTTP/2. */
function toFieldName(name: string): string {
  const lower = name.toLowerCase()
  if (lower === '' || lower.charCodeAt(0) === 0x3a || FORBIDDEN.has(lower)) {
    throw new TypeError('a field that HTTP/2 does not have')
  }
  return lower
}

/** Line ends mean nothing here, but the next one may speak HTTP/1.1. */
function assertValue(value: string): string {
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i)
    if (code === 0x0d || code === 0x0a || code === 0 || code > 0xff) throw new TypeError('an unfit value')
  }
  return value
}
