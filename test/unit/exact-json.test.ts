import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseExactly } from '../../src/control-plane/exact-json.ts'

describe('JSON with numbers as they were written', () => {
  it.each([
    '12345678901234567890',
    '-12345678901234567890',
    '{"a":[1e400,-1E+400,0.12345678901234567890,{"b":9007199254740993}]}',
    '{"__proto__":12345678901234567890,"s":"12345678901234567890"}',
    '["\\"12345678901234567890","\\\\",12345678901234567890,"1e400"]',
    '[1,1.5,"x",null,true,12345678901234567890]',
  ])('%s comes out as it went in', (text) => {
    expect(JSON.stringify(parseExactly(text))).toBe(text)
  })

  it('reads all other numbers as JavaScript does', () => {
    expect(parseExactly('[1e3,9007199254740991,0.1,-0,1.0,2.50e1,12345678901234567890]')).toMatchObject([
      1000,
      Number.MAX_SAFE_INTEGER,
      0.1,
      -0,
      1,
      25,
      {},
    ])
  })

  it.each([
    '{12345678901234567890:1}',
    '{12345678901234567890 :1}',
    '012345678901234567890',
    '1e5e5',
    '+12345678901234567890',
    '12345678901234567890.',
    '"a"12345678901234567890',
    '12345678901234567890 12345678901234567890',
    '[12345678901234567890',
    '--12345678901234567890',
    '1e',
  ])('%s is no JSON', (text) => {
    expect(() => parseExactly(text)).toThrow(SyntaxError)
  })

  it('differs from JSON.parse in nothing else', () => {
    fc.assert(
      fc.property(fc.json(), fc.constantFrom('', '12345678901234567890,'), (text, long) => {
        const whole = `[${long}${text}]`
        const parsed = parseExactly(whole) as unknown[]
        expect(parsed.at(-1)).toEqual((JSON.parse(whole) as unknown[]).at(-1))
      }),
    )
  })

  it('takes not much longer than JSON.parse for a long list with one such number', () => {
    const text = `[12345678901234567890${',1'.repeat(1_000_000)}]`
    const startedMs = performance.now()
    JSON.parse(text)
    const plainMs = performance.now() - startedMs
    expect((parseExactly(text) as unknown[]).length).toBe(1_000_001)
    expect(performance.now() - startedMs - plainMs).toBeLessThan(Math.max(1_500, 50 * plainMs))
  })
})
