import { METHODS as NODE_METHODS } from 'node:http'
import { describe, expect, it } from 'vitest'
import {
  INCOMPLETE,
  MALFORMED,
  TARGET_TOO_LONG,
  TOO_LARGE,
  TOO_MANY_FIELDS,
} from '../../src/data-plane/http1/field-section.ts'
import { METHODS, RequestParser } from '../../src/data-plane/http1/request-parser.ts'

const LIMITS = { headBytesMax: 1024, fieldsMax: 5, targetBytesMax: 64 }

function parse(text: string, at = 0): { end: number; parser: RequestParser } {
  const parser = new RequestParser(LIMITS)
  const bytes = Buffer.from(text, 'latin1')
  return { end: parser.parse(bytes, at, bytes.length), parser }
}

function lines(...parts: string[]): string {
  return `${parts.join('\r\n')}\r\n\r\n`
}

describe('RequestParser', () => {
  it('gives method, target, version and fields as they were sent, and where the head ends', () => {
    const head = lines('POST /a?b=%20 HTTP/1.1', 'Host: a', 'X-Caf\xc9: no', 'Content-Length: 5').replace(
      'X-Caf\xc9',
      'X-Cafe',
    )
    const { end, parser } = parse(`junk${head}hello`, 4)
    expect(end).toBe(4 + head.length)
    expect([parser.method, parser.target, parser.minor]).toEqual(['POST', '/a?b=%20', 1])
    expect(parser.rawHeaders).toEqual(['Host', 'a', 'X-Cafe', 'no', 'Content-Length', '5'])
    expect(parser.framing.contentLength).toBe(5)
  })

  it('cuts blanks off values, keeps bytes beyond ASCII and empty values', () => {
    const { parser } = parse(lines('GET / HTTP/1.0', 'A: \t x y  ', 'B:', 'C: caf\xe9'))
    expect(parser.rawHeaders).toEqual(['A', 'x y', 'B', '', 'C', 'caf\xe9'])
    expect(parser.minor).toBe(0)
  })

  it('lets one empty line go before a request, and not two', () => {
    expect(parse('\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n').end).toBe(29)
    expect(parse('\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n').end).toBe(MALFORMED)
  })

  it.each([
    ['a bare LF in the request line', 'GET / HTTP/1.1\nHost: a\r\n\r\n'],
    ['a bare LF in a field', 'GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n'],
    ['a bare CR', 'GET / HTTP/1.1\r\nHost: a\rX: 1\r\n\r\n'],
    ['CR CR LF', 'GET / HTTP/1.1\r\r\nHost: a\r\n\r\n'],
    ['NUL in a value', lines('GET / HTTP/1.1', 'Host: a\0')],
    ['NUL in a name', lines('GET / HTTP/1.1', 'Ho\0st: a')],
    ['DEL in a value', lines('GET / HTTP/1.1', 'Host: a\x7f')],
    ['a folded line', lines('GET / HTTP/1.1', 'Host: a', ' b')],
    ['a space before the colon', lines('GET / HTTP/1.1', 'Host : a')],
    ['an empty name', lines('GET / HTTP/1.1', ': a')],
    ['a name that is no token', lines('GET / HTTP/1.1', 'Ho(st: a')],
    ['a line without colon', lines('GET / HTTP/1.1', 'Host')],
    ['two spaces', lines('GET  / HTTP/1.1', 'Host: a')],
    ['a tab for a space', lines('GET\t/ HTTP/1.1', 'Host: a')],
    ['a space behind the version', lines('GET / HTTP/1.1 ', 'Host: a')],
    ['a version to come', lines('GET / HTTP/1.2', 'Host: a')],
    ['another major version', lines('GET / HTTP/2.1', 'Host: a')],
    ['a version in lower case', lines('GET / http/1.1', 'Host: a')],
    ['no version', lines('GET /', 'Host: a')],
    ['a control character in the target', lines('GET /\x01 HTTP/1.1', 'Host: a')],
    ['a byte beyond ASCII in the target', lines('GET /\xe9 HTTP/1.1', 'Host: a')],
    ['a method that there is not', lines('GOT / HTTP/1.1', 'Host: a')],
    ['a method in lower case', lines('get / HTTP/1.1', 'Host: a')],
    ['a method without end', 'A'.repeat(40)],
    ['both lengths', lines('POST / HTTP/1.1', 'Content-Length: 5', 'Transfer-Encoding: chunked')],
    ['two lengths', lines('POST / HTTP/1.1', 'Content-Length: 5', 'Content-Length: 5')],
    ['a list of lengths', lines('POST / HTTP/1.1', 'Content-Length: 5, 5')],
    ['a signed length', lines('POST / HTTP/1.1', 'Content-Length: +5')],
    ['a hexadecimal length', lines('POST / HTTP/1.1', 'Content-Length: 0x5')],
    ['a length behind which a tab stands', lines('POST / HTTP/1.1', 'Content-Length: 5\t')],
    ['a length of too many digits', lines('POST / HTTP/1.1', `Content-Length: ${'1'.repeat(16)}`)],
    ['another coding', lines('POST / HTTP/1.1', 'Transfer-Encoding: gzip')],
    ['a coding before chunked', lines('POST / HTTP/1.1', 'Transfer-Encoding: gzip, chunked')],
    ['two codings', lines('POST / HTTP/1.1', 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked')],
    ['a coding behind which a tab stands', lines('POST / HTTP/1.1', 'Transfer-Encoding: chunked\t')],
    ['a coding in HTTP/1.0', lines('POST / HTTP/1.0', 'Transfer-Encoding: chunked')],
    ['two Hosts', lines('GET / HTTP/1.1', 'Host: a', 'Host: a')],
  ])('refuses %s', (_name, text) => {
    expect(parse(text).end).toBe(MALFORMED)
  })

  it('says which limit a head exceeds, as soon as it does', () => {
    expect(parse(`GET /${'x'.repeat(64)}`).end).toBe(TARGET_TOO_LONG)
    expect(parse(lines(`GET /${'x'.repeat(63)} HTTP/1.1`, 'Host: a')).end).toBeGreaterThan(0)
    expect(parse(`GET / HTTP/1.1\r\n${'A: 1\r\n'.repeat(5)}B`).end).toBe(TOO_MANY_FIELDS)
    expect(parse(lines('GET / HTTP/1.1', ...Array.from({ length: 5 }, () => 'A: 1'))).end).toBeGreaterThan(0)
    expect(parse(`GET / HTTP/1.1\r\nA: ${'x'.repeat(1024)}`).end).toBe(TOO_LARGE)
    const filled = lines('GET / HTTP/1.1', `A: ${'x'.repeat(1024 - 23)}`)
    expect(filled).toHaveLength(1024)
    expect(parse(filled).end).toBe(1024)
  })

  it('waits at every byte of a good head, and never says anything else of its beginnings', () => {
    const head = lines('DELETE /x HTTP/1.1', 'Host: a', 'X-A:', 'Transfer-Encoding: chunked', 'B: \t c ')
    for (let length = 0; length < head.length; length++) {
      expect([length, parse(head.slice(0, length)).end]).toEqual([length, INCOMPLETE])
    }
    expect(parse(`${head}GET`).end).toBe(head.length)
  })

  it('knows the methods that Node knows, but for one that is no method of HTTP', () => {
    expect([...METHODS].toSorted()).toEqual(NODE_METHODS.filter((method) => method !== 'SOURCE').toSorted())
  })
})
