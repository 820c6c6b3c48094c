/** Longer tokens are hashed each time: nobody's real token is. */
const TOKEN_LENGTH_MAX = 256

/**
 * Remembers the hashes of tokens as they are presented. Two generations of `max` tokens each: a
 * flood of guesses can only make the real ones be hashed again.
 */
export function rememberHashes(hashToken: (token: string) => string, max: number): (token: string) => string {
  let young = new Map<string, string>()
  let old = new Map<string, string>()

  return (token) => {
    const known = young.get(token)
    if (known !== undefined) return known
    const hash = old.get(token) ?? hashToken(token)
    if (token.length > TOKEN_LENGTH_MAX) return hash
    if (young.size >= max) {
      old = young
      young = new Map()
    }
    // A copy: the token given may be a slice that keeps a whole head alive.
    young.set(Buffer.from(token, 'latin1').toString('latin1'), hash)
    return hash
  }
}
