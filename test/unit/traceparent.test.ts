import { expect, it } from 'vitest'
import { createTraceparents } from '../../src/app/traceparents.ts'
import { isSampled, isTraceparent, toTraceId } from '../../src/domain/traceparent.ts'
import { systemRandom } from '../../src/telemetry/system-clock.ts'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const PARENT = '00f067aa0ba902b7'
const SOUND = `00-${TRACE}-${PARENT}-01`

it.each([
  SOUND,
  `00-${TRACE}-${PARENT}-00`,
  `00-${TRACE}-${PARENT}-ff`,
  // A later version may have more behind it.
  `cc-${TRACE}-${PARENT}-01`,
  `cc-${TRACE}-${PARENT}-01-what-the-future-will-be-like`,
])('takes %s', (text) => {
  expect(isTraceparent(text)).toBe(true)
  expect(toTraceId(text)).toBe(TRACE)
})

it.each([
  ['nothing', ''],
  ['a part', SOUND.slice(0, 54)],
  ['more than its version has', `${SOUND}-00`],
  ['more, without a dash', `cc-${TRACE}-${PARENT}-01.what`],
  ['the version that is none', `ff-${TRACE}-${PARENT}-01`],
  ['capitals', SOUND.toUpperCase()],
  ['no trace id', `00-${'0'.repeat(32)}-${PARENT}-01`],
  ['no parent id', `00-${TRACE}-${'0'.repeat(16)}-01`],
  ['other digits', `00-${TRACE.replace('4', 'g')}-${PARENT}-01`],
  ['other separators', SOUND.replaceAll('-', '_')],
  ['blanks', ` ${SOUND}`],
])('refuses %s', (_, text) => {
  expect(isTraceparent(text)).toBe(false)
})

it('reads the flag of sampled traces from every hex digit', () => {
  const sampled = [...'0123456789abcdef'].filter((digit) => isSampled(`${SOUND.slice(0, 54)}${digit}`))
  expect(sampled.join('')).toBe('13579bdf')
})

it('makes sound ids, never the same twice, and marks the wanted share as sampled', () => {
  const create = createTraceparents(systemRandom, 0.25)
  const made = Array.from({ length: 20_000 }, create)
  expect(made.every(isTraceparent)).toBe(true)
  expect(new Set(made.map(toTraceId)).size).toBe(made.length)
  const share = made.filter(isSampled).length / made.length
  expect(share).toBeGreaterThan(0.22)
  expect(share).toBeLessThan(0.28)
})

it.each([
  [0, 0],
  [1, 1000],
])('at a ratio of %d samples %d of 1,000', (ratio, sampled) => {
  const create = createTraceparents(systemRandom, ratio)
  expect(Array.from({ length: 1000 }, create).filter(isSampled).length).toBe(sampled)
})
