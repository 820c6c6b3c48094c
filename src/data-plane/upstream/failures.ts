import type { RawFields, UpstreamFailure } from '../../ports/transport.ts'
import { equalsIgnoreCase, trimBlanks } from '../raw-headers.ts'

/** Most 1xx answers before the final one; more are an attack. */
export const INFORMATIONS_MAX = 32
/** Largest head of an answer; a larger one is a failure of the upstream. */
export const ANSWER_HEAD_BYTES_MAX = 64 * 1024

const TIMEOUT_CODES: ReadonlySet<unknown> = new Set([
  'ETIMEDOUT',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
])

/** Thrown by nobody: the cause of a failure that this side found. */
export class UpstreamFault extends Error {
  override readonly name = 'UpstreamFault'
  readonly code: string

  constructor(message: string, code = 'INVALID_ANSWER') {
    super(message)
    this.code = code
  }
}

export function createTimeoutFault(what: string): UpstreamFault {
  return new UpstreamFault(`no ${what} in time`, 'ETIMEDOUT')
}

export function toFailureKind(error: unknown): UpstreamFailure['kind'] {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return TIMEOUT_CODES.has(code) ? 'timeout' : 'unreachable'
}

/**
 * Whether the body of an answer would reach us still encoded, or with an end that we cannot know:
 * any transfer coding but `chunked` (RFC 9112 section 6.1).
 */
export function hasForeignCoding(fields: RawFields): boolean {
  for (let i = 0; i < fields.length; i += 2) {
    if (!equalsIgnoreCase(fields[i] ?? '', 'transfer-encoding')) continue
    if (!equalsIgnoreCase(trimBlanks(fields[i + 1] ?? ''), 'chunked')) return true
  }
  return false
}

/** Whether only the end of the connection ends the body. */
export function isCloseDelimited(fields: RawFields): boolean {
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] ?? ''
    if (equalsIgnoreCase(name, 'transfer-encoding') || equalsIgnoreCase(name, 'content-length')) return false
  }
  return true
}

export function announcesBody(fields: RawFields): boolean {
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] ?? ''
    if (equalsIgnoreCase(name, 'transfer-encoding')) return true
    if (equalsIgnoreCase(name, 'content-length') && Number(fields[i + 1]) !== 0) return true
  }
  return false
}
