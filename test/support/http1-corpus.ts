/*
 * Streams of messages, valid and hostile, and random changes to them. Everything follows from a
 * seed, so that a finding can be had again.
 */

export interface Dice {
  /** A whole number from 0 to below `sides`. */
  roll(sides: number): number
  pick<T>(items: readonly T[]): T
}

/** Mulberry32: small, quick, and the same everywhere. */
export function createDice(seed: number): Dice {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
  const roll = (sides: number) => next() % sides
  return {
    roll,
    pick: (items) => {
      const item = items[roll(items.length)]
      if (item === undefined) throw new Error('nothing to pick from')
      return item
    },
  }
}

const START_LINES = [
  'GET / HTTP/1.1',
  'GET /a?b=c%20d HTTP/1.1',
  'POST /upload HTTP/1.1',
  'DELETE /x HTTP/1.1',
  'HEAD / HTTP/1.1',
  'OPTIONS * HTTP/1.1',
  'GET http://a/ HTTP/1.1',
  'GET / HTTP/1.0',
  'PRI * HTTP/2.0',
  'CONNECT a:1 HTTP/1.1',
  'GET  / HTTP/1.1',
  'GET / HTTP/1.2',
  'get / HTTP/1.1',
]
const STATUS_LINES = [
  'HTTP/1.1 200 OK',
  'HTTP/1.1 200 ',
  'HTTP/1.1 200',
  'HTTP/1.0 200 OK',
  'HTTP/1.1 204 No Content',
  'HTTP/1.1 304 Not Modified',
  'HTTP/1.1 100 Continue',
  'HTTP/1.1 103 Early Hints',
  'HTTP/1.1 101 Switching Protocols',
  'HTTP/1.1 999 Odd',
  'HTTP/2.0 200 OK',
  'HTTP/1.1 20 OK',
]
const FIELDS = [
  'Host: a',
  'Host: b',
  'Host : a',
  'Content-Length: 5',
  'Content-Length: 0',
  'Content-Length: 05',
  'Content-Length: +5',
  'Content-Length: 5, 5',
  'Content-Length: 0x5',
  'Content-Length:\t5 ',
  'Transfer-Encoding: chunked',
  'Transfer-Encoding: Chunked',
  'Transfer-Encoding: chunked, chunked',
  'Transfer-Encoding: gzip, chunked',
  'Transfer-Encoding: identity',
  'Transfer-Encoding:\x0bchunked',
  'Connection: close',
  'Connection: keep-alive, Transfer-Encoding',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Expect: 100-continue',
  'X-Long: a\r\n b',
  'X-Empty:',
  'X-Text: caf\xe9',
  'X-Null: a\0b',
  'Accept: */*',
  'User-Agent: fuzz/1.0',
]
const BODIES = [
  '',
  'hello',
  '5\r\nhello\r\n0\r\n\r\n',
  '0\r\n\r\n',
  '5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n',
  '5;a="b;\\"c"\r\nhello\r\n00\r\n\r\n',
  '5 \r\nhello\r\n0\r\n\r\n',
  '05\r\nhello\r\n0\r\n\r\n',
  '5\nhello\n0\n\n',
  'ffffffffffffffff1\r\nhello\r\n0\r\n\r\n',
  '1000000000000\r\nhello\r\n0\r\n\r\n',
  '5\r\nhelloX\r\n0\r\n\r\n',
  '0\r\nContent-Length: 3\r\n\r\n',
  'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n',
]
const BITS = [
  '\r',
  '\n',
  '\r\n',
  '\r\n\r\n',
  '\0',
  ' ',
  '\t',
  ':',
  ';',
  ',',
  '=',
  '"',
  '\\',
  '0',
  '5',
  'f',
  'x',
  '\x7f',
  '\xff',
]

export type MessageKind = 'request' | 'response'

/** One to three messages in a row, often broken. */
export function makeStream(kind: MessageKind, dice: Dice): Buffer {
  let text = ''
  for (let left = 1 + dice.roll(3); left > 0; left--) text += makeMessage(kind, dice)
  for (let left = dice.roll(4); left > 0; left--) text = change(text, dice)
  return Buffer.from(text, 'latin1')
}

/** Framing that fits its body half of the time, so that streams go on behind it. */
function makeMessage(kind: MessageKind, dice: Dice): string {
  const lines = [
    dice.roll(4) > 0
      ? kind === 'request'
        ? 'POST / HTTP/1.1'
        : 'HTTP/1.1 200 OK'
      : dice.pick(kind === 'request' ? START_LINES : STATUS_LINES),
  ]
  if (dice.roll(8) > 0) lines.push('Host: a')
  for (let left = dice.roll(4); left > 0; left--) if (dice.roll(2) === 0) lines.push(dice.pick(FIELDS))
  switch (dice.roll(4)) {
    case 0:
      return join([...lines, 'Content-Length: 5'], 'hello')
    case 1:
      return join([...lines, 'Transfer-Encoding: chunked'], dice.pick(BODIES.slice(2, 6)))
    case 2:
      return join([...lines, kind === 'request' ? 'X-None: 1' : 'Content-Length: 0'], '')
    default:
      return join(lines, dice.pick(BODIES))
  }
}

function join(lines: readonly string[], body: string): string {
  return `${lines.join('\r\n')}\r\n\r\n${body}`
}

function change(text: string, dice: Dice): string {
  const at = dice.roll(text.length + 1)
  const before = text.slice(0, at)
  const after = text.slice(at)
  switch (dice.roll(6)) {
    case 0:
      return before + dice.pick(BITS) + after
    case 1:
      return before + after.slice(1 + dice.roll(3))
    case 2:
      return before + dice.pick(BITS) + after.slice(1)
    case 3:
      return before + String.fromCharCode(dice.roll(256)) + after.slice(1)
    case 4:
      return before + text.slice(dice.roll(text.length + 1)) + after
    default:
      return before + dice.pick(FIELDS) + after
  }
}

/** The same bytes in pieces, some of one byte. */
export function split(bytes: Buffer, dice: Dice): Buffer[] {
  const pieces: Buffer[] = []
  const lengthMax = dice.pick([1, 3, 20, 200])
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + 1 + dice.roll(lengthMax))
    pieces.push(bytes.subarray(at, end))
    at = end
  }
  return pieces
}
