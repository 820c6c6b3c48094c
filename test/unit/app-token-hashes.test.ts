import { describe, expect, it } from 'vitest'
import { rememberHashes } from '../../src/app/token-hashes.ts'

describe('rememberHashes', () => {
  it('hashes a token once while it is in use, and always gives its own hash', () => {
    const hashed: string[] = []
    const hash = rememberHashes((token) => {
      hashed.push(token)
      return `hash of ${token}`
    }, 10)
    for (let round = 0; round < 100; round++) {
      expect(hash('real')).toBe('hash of real')
      // Three guesses a round: more than both generations hold before the real one comes again.
      for (let i = 0; i < 3; i++) expect(hash(`guess ${round}.${i}`)).toBe(`hash of guess ${round}.${i}`)
    }
    expect(hashed.filter((token) => token === 'real')).toHaveLength(1)
  })

  it('keeps no token that is longer than any real one', () => {
    let hashed = 0
    const hash = rememberHashes(() => String(++hashed), 10)
    hash('x'.repeat(300))
    hash('x'.repeat(300))
    expect(hashed).toBe(2)
  })
})
