import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import { RequestParser } from '../../src/data-plane/http1/request-parser.ts'
import { ResponseParser } from '../../src/data-plane/http1/response-parser.ts'
import { createDice, type Dice, type MessageKind, makeStream } from '../support/http1-corpus.ts'

const LIMITS = { headBytesMax: 16 * 1024, fieldsMax: 100, targetBytesMax: 8 * 1024 }
/** So tight that random heads are often around them. */
const TIGHT = { headBytesMax: 120, fieldsMax: 4, targetBytesMax: 12 }
const ROUNDS = 40

type Parser = RequestParser | ResponseParser

interface Tally {
  compared: number
  accepted: number
  remembered: number
}

/** What a parser says of the bytes from `start` to `end`. */
function read(parser: Parser, bytes: Buffer, start: number, end: number, last: Parser['recent']): unknown {
  const parse = parser.parse.bind(parser) as (...input: unknown[]) => number
  const at = parse(bytes, start, end, last)
  if (at < 0) return { at }
  const { minor, rawHeaders, framing } = parser
  const line = parser instanceof RequestParser ? [parser.method, parser.target] : [parser.status]
  const { contentLength, isChunked, expectsContinue, hasUpgrade, wantsClose } = framing
  return { at, minor, line, rawHeaders, contentLength, isChunked, expectsContinue, hasUpgrade, wantsClose }
}

function createParser(kind: MessageKind, limits: typeof LIMITS): Parser {
  return kind === 'request' ? new RequestParser(limits) : new ResponseParser(limits)
}

/** A few heads that come again and again, on a few connections, whole and in parts, with others between. */
function compare(kind: MessageKind, limits: typeof LIMITS, dice: Dice, tally: Tally): void {
  const parser = createParser(kind, limits)
  const heads = Array.from({ length: 24 }, () => makeStream(kind, dice))
  const connections: Parser['recent'][] = [undefined, undefined, undefined]
  const seen = new Set<unknown>()
  for (let i = 0; i < 400; i++) {
    const own = dice.roll(connections.length)
    const before = Buffer.alloc(dice.roll(3), dice.pick(['\r\n', 'x', '\0']))
    const bytes = Buffer.concat([before, dice.pick(heads), dice.pick(heads)])
    let end = before.length
    while (end < bytes.length) {
      end = dice.roll(3) === 0 ? Math.min(bytes.length, end + 1 + dice.roll(60)) : bytes.length
      const last = connections[own]
      const fresh = createParser(kind, limits)
      // Memory that is used for all connections, and what it held before stands there no more.
      const lent = Buffer.from(bytes)
      const ours = read(parser, lent, before.length, end, last)
      lent.fill(0x21)
      expect(ours).toEqual(read(fresh, bytes, before.length, end, undefined))
      tally.compared++
      if ((ours as { at: number }).at < 0) continue
      connections[own] = parser.recent
      tally.accepted++
      if (seen.has(parser.recent)) tally.remembered++
      if (parser.recent !== undefined) seen.add(parser.recent)
      break
    }
    if (dice.roll(10) === 0) connections[own] = undefined
  }
}

describe('a parser that remembers', () => {
  it.each(['request', 'response'] as const)('reads each %s as one that has seen nothing yet', (kind) => {
    const tally: Tally = { compared: 0, accepted: 0, remembered: 0 }
    const seed = Math.floor(Math.random() * 2 ** 31)
    const rounds = Number(process.env['DRIPGATE_FUZZ_ROUNDS'] ?? ROUNDS)
    for (let round = 0; round < rounds; round++) {
      try {
        compare(kind, round % 3 === 0 ? TIGHT : LIMITS, createDice(seed + round), tally)
      } catch (error) {
        throw new Error(`seed ${seed + round}, round ${round}`, { cause: error })
      }
    }
    expect(tally.remembered).toBeGreaterThan(20 * ROUNDS)
    expect(tally.accepted - tally.remembered).toBeGreaterThan(ROUNDS)
  })

  it('keeps no more than it may, however many heads come that are all worth keeping', () => {
    const parser = new RequestParser(LIMITS)
    const growth: number[] = []
    for (const count of [1500, 8000]) {
      const before = collectGarbage()
      for (let i = 0; i < count; i++) {
        const head = toHead(`X-Id: ${count}-${i}\r\n${'X-Some: 0123456789abcdef\r\n'.repeat(75)}`)
        // Twice, or they would be found to be of a kind that does not come again.
        parser.parse(head, 0, head.length)
        parser.parse(head, 0, head.length)
      }
      growth.push(collectGarbage() - before)
    }
    expect(growth[1]).toBeLessThan(Math.max(2 * (growth[0] ?? 0), 12_000_000))
    expect(parser.recent).toBeDefined()
  })

  it('holds on to no memory but its own', () => {
    const parser = new RequestParser(LIMITS)
    const answers = new ResponseParser(LIMITS)
    const [head, answer] = [toHead('X-Some: 1\r\n'), Buffer.from('HTTP/1.1 200 OK\r\nX-Some: 1\r\n\r\n')]
    parser.parse(head, 0, head.length)
    answers.parse(answer, 0, answer.length)
    for (const bytes of [parser.recent?.bytes, answers.recent?.bytes])
      expect(bytes?.buffer.byteLength).toBe(bytes?.length)
    expect(parser.recent?.bytes).toHaveLength(head.length - 'GET / HTTP/1.1\r\n'.length)
  })

  it('gives nothing of one version of the protocol to another', () => {
    const parser = new RequestParser(LIMITS)
    const head = toHead('X-Some: 1\r\n')
    const older = Buffer.from(String(head).replace('1.1', '1.0'))
    parser.parse(head, 0, head.length)
    const { recent } = parser
    expect(recent).toBeDefined()
    parser.parse(older, 0, older.length, recent)
    expect(parser.recent).toBeUndefined()
    parser.parse(head, 0, head.length)
    expect(parser.recent).toBe(recent)
  })

  it('stops looking where heads do not come again, and begins again', () => {
    const parser = new RequestParser(LIMITS)
    const parse = (head: Buffer) => {
      expect(parser.parse(head, 0, head.length)).toBe(head.length)
      return parser.recent
    }
    let missed = 0
    for (let i = 0; i < 1000; i++) if (parse(toHead(`X-Id: ${i}\r\n`)) === undefined) missed++
    expect(missed).toBeGreaterThan(500)
    const usual = toHead('X-Some: 1\r\n')
    let tries = 0
    while (parse(usual) === undefined && tries < 10_000) tries++
    expect(parse(usual)).toBe(parse(usual))
    expect(tries).toBeLessThan(10_000)
  })

  it('looks ever more rarely where heads still do not come again', () => {
    const parser = new RequestParser(LIMITS)
    let kept = 0
    for (let i = 0; i < 60_000; i++) {
      const head = toHead(`X-Id: ${i}\r\n`)
      parser.parse(head, 0, head.length)
      if (parser.recent !== undefined) kept++
    }
    // Four looks at 256 heads each; with pauses that do not grow it would be three times as much.
    expect(kept).toBeGreaterThan(0)
    expect(kept).toBeLessThan(1500)
  })
})

function toHead(fields: string): Buffer {
  return Buffer.from(`GET / HTTP/1.1\r\nHost: a\r\n${fields}\r\n`)
}

/** Bytes in use afterwards. */
function collectGarbage(): number {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}
