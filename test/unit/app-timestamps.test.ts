import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatInstant, parseTimestamp, toExpiry } from '../../src/app/timestamps.ts'

const instant = (text: string, ms: number) => ({ kind: 'instant', expiry: { text, ms } })

describe('parseTimestamp', () => {
  it.each([
    ['2024-12-12T04:49:53Z', '2024-12-12T04:49:53Z', 1_733_978_993_000],
    ['2024-12-12t04:49:53z', '2024-12-12T04:49:53Z', 1_733_978_993_000],
    ['2024-12-12T04:49:53.5Z', '2024-12-12T04:49:53.5Z', 1_733_978_993_500],
    ['2024-12-12T04:49:53.500Z', '2024-12-12T04:49:53.500Z', 1_733_978_993_500],
    ['2024-12-12T04:49:53.41993172Z', '2024-12-12T04:49:53.41993172Z', 1_733_978_993_420],
    ['2024-12-12T04:49:53.000000001Z', '2024-12-12T04:49:53.000000001Z', 1_733_978_993_001],
    ['2024-12-12T04:49:53.999999999Z', '2024-12-12T04:49:53.999999999Z', 1_733_978_994_000],
    ['2024-12-12T04:49:53+00:00', '2024-12-12T04:49:53Z', 1_733_978_993_000],
    ['2024-12-12T04:49:53-00:00', '2024-12-12T04:49:53Z', 1_733_978_993_000],
    ['2024-12-12T06:49:53.10+02:00', '2024-12-12T04:49:53.10Z', 1_733_978_993_100],
    ['2024-12-11T23:19:53-05:30', '2024-12-12T04:49:53Z', 1_733_978_993_000],
    ['2024-02-29T23:59:59+23:59', '2024-02-29T00:00:59Z', 1_709_164_859_000],
    ['0001-01-01T00:00:00.000000001Z', '0001-01-01T00:00:00.000000001Z', -62_135_596_799_999],
    ['0099-06-01T00:00:00Z', '0099-06-01T00:00:00Z', Date.parse('0099-06-01T00:00:00Z')],
    ['0000-01-01T00:00:00Z', '0000-01-01T00:00:00Z', Date.parse('0000-01-01T00:00:00Z')],
    ['9999-12-31T23:59:59.999999999Z', '9999-12-31T23:59:59.999999999Z', 253_402_300_800_000],
    ['1969-12-31T23:59:59.25Z', '1969-12-31T23:59:59.25Z', -750],
  ])('reads %s as %s', (text, utc, ms) => {
    expect(parseTimestamp(text)).toEqual(instant(utc, ms))
  })

  it('reads a leap second as the second that follows it, and only where there can be one', () => {
    const newYear = instant('2017-01-01T00:00:00Z', Date.parse('2017-01-01T00:00:00Z'))
    expect(parseTimestamp('2016-12-31T23:59:60Z')).toEqual(newYear)
    expect(parseTimestamp('2017-01-01T00:59:60+01:00')).toEqual(newYear)
    expect(parseTimestamp('2016-12-31T12:59:60Z')).toEqual({ kind: 'invalid' })
    expect(parseTimestamp('2016-12-31T23:59:60+01:00')).toEqual({ kind: 'invalid' })
    expect(parseTimestamp('9999-12-31T23:59:60Z')).toEqual({ kind: 'invalid' })
  })

  it('takes the zero time of Go, however it is written, for no time', () => {
    for (const text of [
      '0001-01-01T00:00:00Z',
      '0001-01-01T00:00:00.000000000Z',
      '0001-01-01T01:00:00+01:00',
      '0000-12-31T23:00:00-01:00',
    ]) {
      expect(parseTimestamp(text)).toEqual({ kind: 'unset' })
    }
  })

  it.each([
    '',
    'now',
    '2024-12-12',
    '2024-12-12T04:49Z',
    '2024-12-12T04:49:53',
    '2024-12-12 04:49:53Z',
    '2024-12-12T04:49:53.Z',
    '2024-12-12T04:49:53,5Z',
    '2024-12-12T04:49:53.1234567891Z',
    '2024-12-12T04:49:53+0200',
    '2024-12-12T04:49:53+24:00',
    '2024-12-12T04:49:53+01:60',
    '2024-12-12T24:00:00Z',
    '2024-12-12T04:60:00Z',
    '2024-12-12T04:49:61Z',
    '2024-13-01T00:00:00Z',
    '2024-00-01T00:00:00Z',
    '2024-01-00T00:00:00Z',
    '2024-04-31T00:00:00Z',
    '2023-02-29T00:00:00Z',
    '1900-02-29T00:00:00Z',
    '+12024-01-01T00:00:00Z',
    '-0001-01-01T00:00:00Z',
    '0000-01-01T00:00:00+00:01',
    '9999-12-31T23:59:59-00:01',
    ' 2024-12-12T04:49:53Z',
    '2024-12-12T04:49:53Z\n',
    '２０２４-12-12T04:49:53Z',
    '1733978993',
  ])('refuses %j', (text) => {
    expect(parseTimestamp(text)).toEqual({ kind: 'invalid' })
  })

  it('agrees with the platform about every instant, offset and number of digits', () => {
    const anyCase = fc.record({
      seconds: fc.integer({ min: -62_135_596_799, max: 253_402_300_799 }),
      fraction: fc.string({ unit: fc.constantFrom(...'0123456789'), maxLength: 9 }),
      offsetMinutes: fc.integer({ min: -1439, max: 1439 }),
    })
    fc.assert(
      fc.property(anyCase, ({ seconds, fraction, offsetMinutes }) => {
        const localMs = (seconds + offsetMinutes * 60) * 1000
        fc.pre(localMs >= -62_135_596_800_000 && localMs <= 253_402_300_799_000)
        const local = new Date(localMs).toISOString().slice(0, 19)
        const digits = fraction === '' ? '' : `.${fraction}`
        const hours = String(Math.trunc(Math.abs(offsetMinutes) / 60)).padStart(2, '0')
        const minutes = String(Math.abs(offsetMinutes) % 60).padStart(2, '0')
        const text = `${local}${digits}${offsetMinutes < 0 ? '-' : '+'}${hours}:${minutes}`
        const utc = `${new Date(seconds * 1000).toISOString().slice(0, 19)}${digits}Z`
        const nanos = BigInt(fraction.padEnd(9, '0'))
        const ms = seconds * 1000 + Number((nanos + 999_999n) / 1_000_000n)
        expect(parseTimestamp(text)).toEqual(instant(utc, ms))
        // What we answer is read back as the same instant, digit for digit.
        expect(parseTimestamp(utc)).toEqual(instant(utc, ms))
      }),
      { numRuns: 500 },
    )
  })

  it('never throws, whatever the text, and answers only what it reads again', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.date({ noInvalidDate: true }).map((d) => d.toISOString()),
        ),
        (text) => {
          const parsed = parseTimestamp(text)
          if (parsed.kind === 'instant') expect(parseTimestamp(parsed.expiry.text)).toEqual(parsed)
        },
      ),
    )
  })
})

describe('formatInstant', () => {
  it('gives UTC with milliseconds and stays within years that can be written', () => {
    expect(formatInstant(1_733_978_993_419)).toBe('2024-12-12T04:49:53.419Z')
    expect(formatInstant(-1)).toBe('1970-01-01T00:00:00.000Z')
    expect(formatInstant(-(2 ** 53))).toBe('1970-01-01T00:00:00.000Z')
    expect(formatInstant(2 ** 53)).toBe('9999-12-31T23:59:59.999Z')
  })
})

describe('toExpiry', () => {
  it('adds milliseconds, up to the end of the last year', () => {
    expect(toExpiry(1_733_978_993_419, 1)).toEqual({
      text: '2024-12-12T04:49:53.420Z',
      ms: 1_733_978_993_420,
    })
    const last = { text: '9999-12-31T23:59:59.999Z', ms: 253_402_300_799_999 }
    expect(toExpiry(1_733_978_993_419, 2 ** 53 - 1)).toEqual(last)
  })
})
