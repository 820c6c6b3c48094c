import { describe, expect, it } from 'vitest'
import { compileRanges } from '../../src/data-plane/address-ranges.ts'
import { resolveClientAddress } from '../../src/data-plane/client-address.ts'

const trusted = compileRanges(['10.0.0.0/8', '2001:db8::/32', '::ffff:192.168.0.0/112', '127.0.0.1/32'])

function resolve(peer: string, ...lists: string[]) {
  return resolveClientAddress(
    trusted,
    peer,
    lists.flatMap((list) => ['X-Forwarded-For', list]),
  )
}

describe('the address of a client', () => {
  it('is that of the peer where nobody is trusted', () => {
    const nobody = compileRanges([])
    expect(resolveClientAddress(nobody, '::ffff:10.0.0.1', ['X-Forwarded-For', '1.1.1.1'])).toEqual({
      address: '10.0.0.1',
      peer: '10.0.0.1',
      isPeerTrusted: false,
    })
  })

  it('is that of the peer where the peer is not trusted', () => {
    expect(resolve('11.0.0.1', '1.1.1.1')).toEqual({
      address: '11.0.0.1',
      peer: '11.0.0.1',
      isPeerTrusted: false,
    })
    expect(resolve('2001:db9::1', '1.1.1.1').isPeerTrusted).toBe(false)
    expect(resolve('', '1.1.1.1').isPeerTrusted).toBe(false)
  })

  it.each([
    ['10.0.0.1', ['1.1.1.1'], '1.1.1.1'],
    ['::ffff:10.0.0.1', ['1.1.1.1'], '1.1.1.1'],
    ['192.168.255.255', ['1.1.1.1'], '1.1.1.1'],
    ['2001:db8::5', ['2001:DB9:0::1'], '2001:db9::1'],
    ['10.0.0.1', ['6.6.6.6, 1.1.1.1'], '1.1.1.1'],
    ['10.0.0.1', ['6.6.6.6', '1.1.1.1, 10.9.9.9'], '1.1.1.1'],
    ['10.0.0.1', ['6.6.6.6, 1.1.1.1 ,10.9.9.9,2001:db8::1'], '1.1.1.1'],
    ['10.0.0.1', ['10.0.0.3, 10.0.0.2'], '10.0.0.3'],
    ['10.0.0.1', [], '10.0.0.1'],
    ['10.0.0.1', [''], '10.0.0.1'],
    ['10.0.0.1', ['1.1.1.1:5000'], '1.1.1.1'],
    ['10.0.0.1', ['[2001:db9::1]:443'], '2001:db9::1'],
    ['10.0.0.1', ['::ffff:1.1.1.1'], '1.1.1.1'],
    ['10.0.0.1', ['6.6.6.6, unknown, 10.0.0.2'], '10.0.0.2'],
    ['10.0.0.1', ['6.6.6.6,'], '10.0.0.1'],
    ['10.0.0.1', ['0x7f.1'], '10.0.0.1'],
    ['10.0.0.1', ['010.0.0.1'], '10.0.0.1'],
    ['10.0.0.1', ['fe80::1%eth0'], '10.0.0.1'],
    ['10.0.0.1', ['"1.1.1.1"'], '10.0.0.1'],
  ])(
    'behind %s with %j is %s: from the right, up to the first that is not trusted',
    (peer, lists, expected) => {
      expect(resolve(peer, ...lists)).toMatchObject({ address: expected, isPeerTrusted: true })
    },
  )

  it('is found in a list of any length, and strangers do not fill the memory', () => {
    expect(resolve('10.0.0.1', Array.from({ length: 5000 }, () => '10.0.0.2').join()).address).toBe(
      '10.0.0.2',
    )
    for (let i = 0; i < 10_000; i++) resolve(`11.${i >> 16}.${(i >> 8) & 255}.${i & 255}`)
    expect(trusted.known.size).toBeLessThanOrEqual(4096)
  })
})
