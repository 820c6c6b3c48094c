import { hash, timingSafeEqual } from 'node:crypto'
import type { Random } from '../ports/runtime.ts'

/** Every generated service key token starts with this. */
export const SERVICE_TOKEN_PREFIX = 'sk_'

const SECRET_BYTES = 32
const NOT_ASCII = /[\u0080-\uffff]/

/** The prefix and 43 base64url characters: 256 bits that only the receiver of the answer knows. */
export function mintToken(prefix: string, random: Random): string {
  return prefix + Buffer.from(random.bytes(SECRET_BYTES)).toString('base64url')
}

/** SHA-256 of the text's UTF-8 bytes in lowercase hex: all that is ever stored of a token. */
export function hashToken(token: string): string {
  return hash('sha256', token, 'hex')
}

/** The same for bytes, so that a token hashes alike wherever it was presented. */
export function hashTokenBytes(token: Uint8Array): string {
  return hash('sha256', token, 'hex')
}

/** The same for a field as it arrives: latin1 text, one character for each byte. */
export function hashByteString(token: string): string {
  return NOT_ASCII.test(token) ? hashTokenBytes(Buffer.from(token, 'latin1')) : hashToken(token)
}

/** Compares two hashes of this module in a time that does not depend on where they differ. */
export function isSameHash(a: string, b: string): boolean {
  const left = Buffer.from(a, 'latin1')
  const right = Buffer.from(b, 'latin1')
  return left.length === right.length && timingSafeEqual(left, right)
}
