import { createHash, randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { hashToken, hashTokenBytes, isSameHash, mintToken } from '../../src/app/tokens.ts'

const random = { bytes: (n: number) => randomBytes(n) }

describe('tokens', () => {
  it('are the prefix and 43 characters that hold all 32 random bytes', () => {
    const asked: number[] = []
    const bytes = Uint8Array.from({ length: 32 }, (_, index) => 255 - index)
    const token = mintToken('ord_', {
      bytes(n) {
        asked.push(n)
        return bytes
      },
    })
    expect(asked).toEqual([32])
    expect(token).toMatch(/^ord_[A-Za-z0-9_-]{43}$/)
    expect(Buffer.from(token.slice(4), 'base64url')).toEqual(Buffer.from(bytes))
    expect(mintToken('', random)).not.toBe(mintToken('', random))
  })

  it('hash by their UTF-8 bytes, from a text or from the bytes of a header field', () => {
    for (const token of ['', 'sk_abc', 'ü€😀', '\u0000']) {
      const expected = createHash('sha256').update(Buffer.from(token, 'utf8')).digest('hex')
      expect(hashToken(token)).toBe(expected)
      const fieldValue = Buffer.from(token, 'utf8').toString('latin1')
      expect(hashTokenBytes(Buffer.from(fieldValue, 'latin1'))).toBe(expected)
    }
  })

  it('are the same only where every character of the hash is', () => {
    const hash = hashToken('a')
    expect(isSameHash(hash, hashToken('a'))).toBe(true)
    expect(isSameHash(hash, hashToken('b'))).toBe(false)
    expect(isSameHash(hash, hash.slice(1))).toBe(false)
    expect(isSameHash(hash, `${hash.slice(0, 63)}g`)).toBe(false)
  })
})
