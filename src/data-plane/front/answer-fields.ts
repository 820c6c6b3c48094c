import type { IncomingMessage, ServerResponse } from 'node:http'
import type { RawFields } from '../../ports/transport.ts'
import { equalsIgnoreCase } from '../raw-headers.ts'

export function toHttpVersion(request: IncomingMessage): '1.0' | '1.1' | 'other' {
  const { httpVersion } = request
  return httpVersion === '1.1' || httpVersion === '1.0' ? httpVersion : 'other'
}

export function addTrailers(answer: ServerResponse, trailers: RawFields): void {
  const pairs: [string, string][] = []
  for (let i = 0; i < trailers.length; i += 2) pairs.push([trailers[i] ?? '', trailers[i + 1] ?? ''])
  answer.addTrailers(pairs)
}

/** A `Trailer` field may only stand where trailers can follow; Node throws otherwise. */
export function dropLoneTrailer(
  fields: string[],
  httpVersion: string,
  method: string,
  status: number,
): string[] {
  const trailer = indexOfField(fields, 'trailer')
  if (trailer < 0) return fields
  const isChunked =
    httpVersion === '1.1' &&
    method !== 'HEAD' &&
    status !== 204 &&
    status !== 304 &&
    indexOfField(fields, 'content-length') < 0
  return isChunked ? fields : dropLoneTrailer(fields.toSpliced(trailer, 2), httpVersion, method, status)
}

export function announcesBody(rawHeaders: RawFields): boolean {
  const length = indexOfField(rawHeaders, 'content-length')
  if (length >= 0) return rawHeaders[length + 1] !== '0'
  return indexOfField(rawHeaders, 'transfer-encoding') >= 0
}

/** Whether the body is chunked, or announced to be longer. */
export function announcesMore(rawHeaders: RawFields, bytes: number): boolean {
  const length = indexOfField(rawHeaders, 'content-length')
  return length < 0 || Number(rawHeaders[length + 1]) > bytes
}

function indexOfField(fields: RawFields, lowerName: string): number {
  for (let i = 0; i < fields.length; i += 2) {
    if (equalsIgnoreCase(fields[i] ?? '', lowerName)) return i
  }
  return -1
}
