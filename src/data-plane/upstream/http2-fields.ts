import type { OutgoingHttpHeaders } from 'node:http2'
import type { RawFields, UpstreamRequest } from '../../ports/transport.ts'
import { listFields } from '../message-fields.ts'

/** What `Host` says has become `:authority`; the rest frames or concerns one connection of HTTP/1.1. */
const LEFT_OUT: ReadonlySet<string> = new Set(['host', 'connection', 'upgrade', 'transfer-encoding'])

export function toRequestFields(request: UpstreamRequest, scheme: 'http' | 'https'): string[] {
  const { method, target } = request
  const rawHeaders = listFields(request)
  const fields = [':method', method, ':scheme', scheme, ':authority', '', ':path', target]
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] ?? '').toLowerCase()
    const value = rawHeaders[i + 1] ?? ''
    if (name === 'host') fields[5] = value
    else if (!LEFT_OUT.has(name)) fields.push(name, value)
  }
  return fields
}

export interface AnswerFields {
  readonly status: number
  readonly fields: RawFields
  /** -1 where none is announced. */
  readonly contentLength: number
}

/** nghttp2 has made sure that the pseudo fields come first and that the length is a number. */
export function readAnswerFields(raw: RawFields): AnswerFields {
  let status = 0
  let contentLength = -1
  const fields: string[] = []
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] ?? ''
    const value = raw[i + 1] ?? ''
    if (name === ':status') status = Number(value)
    else if (name.charCodeAt(0) !== 0x3a) fields.push(name, value)
    if (name === 'content-length') contentLength = Number(value)
  }
  return { status, fields, contentLength }
}

export function toTrailers(fields: RawFields): OutgoingHttpHeaders {
  const found: Record<string, string | string[]> = Object.create(null)
  for (let i = 0; i < fields.length; i += 2) {
    const name = (fields[i] ?? '').toLowerCase()
    const value = fields[i + 1] ?? ''
    const before = found[name]
    if (before === undefined) found[name] = value
    else found[name] = typeof before === 'string' ? [before, value] : [...before, value]
  }
  return found
}
