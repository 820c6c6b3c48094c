import { expect, it } from 'vitest'
import { slotOf } from '../../src/stores/redis/hash-slot.ts'

/** The check value of CRC-16/XMODEM, and slots as CLUSTER KEYSLOT gives them. */
it.each([
  ['123456789', 0x31c3],
  ['', 0],
  ['foo', 12182],
  ['ä€', 14880],
  ['user:profile:12345', 10454],
])('knows the slot of %j', (key, slot) => {
  expect(slotOf(key)).toBe(slot % 16_384)
})

it('looks only at what stands in the first braces, unless that is nothing', () => {
  expect(slotOf('a{foo}b')).toBe(slotOf('foo'))
  expect(slotOf('{foo}{bar}')).toBe(slotOf('foo'))
  expect(slotOf('a{{foo}}b')).toBe(slotOf('{foo'))
  for (const key of ['a{}foo', 'a{foo', 'a}foo{', '{}']) expect(slotOf(key)).not.toBe(slotOf('foo'))
})
