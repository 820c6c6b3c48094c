import { describe, expect, it } from 'vitest'
import {
  INCOMPLETE,
  MALFORMED,
  TOO_LARGE,
  TOO_MANY_FIELDS,
} from '../../src/data-plane/http1/field-section.ts'
import { ResponseParser } from '../../src/data-plane/http1/response-parser.ts'

function parse(text: string): { end: number; parser: ResponseParser } {
  const parser = new ResponseParser({ headBytesMax: 512, fieldsMax: 4 })
  const bytes = Buffer.from(text, 'latin1')
  return { end: parser.parse(bytes, 0, bytes.length), parser }
}

describe('ResponseParser', () => {
  it.each([
    ['HTTP/1.1 200 OK', 200, 1],
    ['HTTP/1.1 200 ', 200, 1],
    ['HTTP/1.1 200', 200, 1],
    ['HTTP/1.0 404 Not \xe4 Found', 404, 0],
    ['HTTP/1.1 999 Odd', 999, 1],
  ])('reads %j', (line, status, minor) => {
    const { end, parser } = parse(`${line}\r\nX-A: 1\r\nConnection: close\r\n\r\nbody`)
    expect(end).toBe(line.length + 2 + 8 + 19 + 2)
    expect([parser.status, parser.minor]).toEqual([status, minor])
    expect(parser.rawHeaders).toEqual(['X-A', '1', 'Connection', 'close'])
    expect(parser.framing.wantsClose).toBe(true)
  })

  it.each([
    'HTP/1.1 200 OK\r\n\r\n',
    'HTTP/1.2 200 OK\r\n\r\n',
    'HTTP/2.0 200 OK\r\n\r\n',
    'HTTP/1.1  200 OK\r\n\r\n',
    'HTTP/1.1 20 OK\r\n\r\n',
    'HTTP/1.1 099 OK\r\n\r\n',
    'HTTP/1.1 2000 OK\r\n\r\n',
    'HTTP/1.1 200 O\0K\r\n\r\n',
    'HTTP/1.1 200 OK\n\r\n',
    'HTTP/1.1 200 OK\r\nA : 1\r\n\r\n',
    'HTTP/1.1 200 OK\r\nA: 1\r\n 2\r\n\r\n',
    'HTTP/1.1 200 OK\r\nA: 1\rB: 2\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n',
    'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n',
  ])('refuses %j', (text) => {
    expect(parse(text).end).toBe(MALFORMED)
  })

  it('bounds the head and the number of its fields', () => {
    expect(parse(`HTTP/1.1 200 OK\r\n${'A: 1\r\n'.repeat(5)}`).end).toBe(TOO_MANY_FIELDS)
    expect(parse(`HTTP/1.1 200 OK\r\nA: ${'x'.repeat(600)}`).end).toBe(TOO_LARGE)
  })

  it('waits at every byte of a good head', () => {
    const head = 'HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 3\r\n\r\n'
    for (let length = 0; length < head.length; length++) {
      expect([length, parse(head.slice(0, length)).end]).toEqual([length, INCOMPLETE])
    }
  })
})
