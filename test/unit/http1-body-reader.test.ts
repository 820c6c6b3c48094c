import { describe, expect, it } from 'vitest'
import { BodyReader } from '../../src/data-plane/http1/body-reader.ts'
import { createDice, split } from '../support/http1-corpus.ts'

/** The data, then how it ended and how much was used. */
function read(body: BodyReader, pieces: readonly Buffer[]): { data: string; event: string; used: number } {
  let data = ''
  let used = 0
  for (const piece of pieces) {
    let at = 0
    do {
      at = body.next(piece, at, piece.length)
      if (body.event === 'data') data += piece.toString('latin1', body.dataStart, body.dataEnd)
    } while (body.event === 'data')
    used += at
    if (body.event !== 'more') break
  }
  return { data, event: body.event, used }
}

function readChunks(text: string) {
  return read(BodyReader.ofChunks(), [Buffer.from(text, 'latin1')])
}

describe('BodyReader', () => {
  it('ends a body of a known length where it ends, and takes nothing behind it', () => {
    expect(read(BodyReader.ofLength(5), [Buffer.from('hel'), Buffer.from('loGET')])).toEqual({
      data: 'hello',
      event: 'end',
      used: 5,
    })
    expect(read(BodyReader.ofLength(0), [Buffer.from('GET')])).toEqual({ data: '', event: 'end', used: 0 })
    expect(read(BodyReader.ofLength(9), [Buffer.from('hello')]).event).toBe('more')
  })

  it('takes everything where only the connection ends the body', () => {
    expect(read(BodyReader.untilClose(), [Buffer.from('a'), Buffer.from('b')])).toEqual({
      data: 'ab',
      event: 'more',
      used: 2,
    })
  })

  it('reads chunks, their extensions and the trailers, however they are cut', () => {
    const text = '5;a=b;c="d\\";e";f\r\nhello\r\n0006\r\n world\r\n0;x\r\nX-Sum: 1\r\nX-B: \r\n\r\n'
    const bytes = Buffer.from(`${text}GET /`, 'latin1')
    for (let seed = 0; seed < 300; seed++) {
      const body = BodyReader.ofChunks()
      const found = read(body, seed === 0 ? [bytes] : split(bytes, createDice(seed)))
      expect(found).toEqual({ data: 'hello world', event: 'end', used: text.length })
      expect(body.trailers).toEqual(['X-Sum', '1', 'X-B', ''])
    }
  })

  it.each([
    ['no size', '\r\nhello'],
    ['a size that is none', 'g\r\n'],
    ['a sign', '-1\r\n'],
    ['a prefix', '0x5\r\nhello'],
    ['a blank before', ' 5\r\nhello'],
    ['a blank behind', '5 \r\nhello'],
    ['13 digits', '0000000000005\r\nhello'],
    ['a bare LF behind the size', '5\nhello'],
    ['a bare CR behind the size', '5\rhello'],
    ['a chunk without its end', '5\r\nhello0\r\n\r\n'],
    ['a bare LF behind the data', '5\r\nhello\n0\r\n\r\n'],
    ['an extension without a name', '5;\r\nhello'],
    ['an extension without a value', '5;a=\r\nhello'],
    ['a blank in an extension', '5; a\r\nhello'],
    ['a control character in an extension', '5;a="\n"\r\nhello'],
    ['something behind a quoted value', '5;a="b"c\r\nhello'],
    ['too long an extension', `5;${'a'.repeat(5000)}\r\nhello`],
    ['many small extensions', '1;aaaaaaaa\r\nx\r\n'.repeat(1000)],
    ['a bad trailer', '0\r\nX Y: 1\r\n\r\n'],
    ['a length as a trailer', '0\r\ncontent-length: 5\r\n\r\n'],
    ['a coding as a trailer', '0\r\nTransfer-Encoding: chunked\r\n\r\n'],
    ['too many trailers', `0\r\n${'A: 1\r\n'.repeat(65)}\r\n`],
    ['too large a trailer', `0\r\nA: ${'x'.repeat(9000)}\r\n\r\n`],
  ])('refuses %s', (_name, text) => {
    expect(readChunks(text).event).toBe('fault')
  })

  it('keeps the largest size exact, and says no more after the end', () => {
    const body = BodyReader.ofChunks()
    expect(read(body, [Buffer.from('ffffffffffff\r\nxy')])).toMatchObject({ data: 'xy', event: 'more' })
    expect(readChunks('0\r\n\r\n0\r\n\r\n')).toEqual({ data: '', event: 'end', used: 5 })
  })
})
