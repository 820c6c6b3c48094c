/**
 * Identifiers (contract section 5, point 4): a prefix that tells the kind, then 22 lowercase
 * letters when we made it, or 1 to 64 of `[A-Za-z0-9_-]` when the caller chose it.
 */

export type IdKind = 'ks' | 'k' | 'sk'

const GENERATED_LETTERS = 22
const SUPPLIED_BODY = /^[A-Za-z0-9_-]{1,64}$/
/** The largest multiple of 26 that fits a byte; bytes from there on would favour some letters. */
const UNBIASED_BYTES = 234

/** `randomBytes(n)` gives `n` random bytes. About 103 bits of it end up in the id. */
export function generateId(kind: IdKind, randomBytes: (n: number) => Uint8Array): string {
  let letters = ''
  while (letters.length < GENERATED_LETTERS) {
    for (const byte of randomBytes(32)) {
      if (byte < UNBIASED_BYTES && letters.length < GENERATED_LETTERS) {
        letters += String.fromCharCode(97 + (byte % 26))
      }
    }
  }
  return `${kind}_${letters}`
}

export function isId(kind: IdKind, text: string): boolean {
  return text.startsWith(`${kind}_`) && SUPPLIED_BODY.test(text.slice(kind.length + 1))
}
