import type { Random } from '../ports/runtime.ts'

const BYTES_PER_ID = 16
const IDS_PER_DRAW = 512
/** The first digit of the fourth group, by two random bits (RFC 9562 section 4.1). */
const VARIANTS = ['8', '9', 'a', 'b']

/** Makes random UUIDs (RFC 9562 section 5.4), drawing random bytes for many of them at once. */
export function createRequestIds(random: Random): () => string {
  let digits = ''
  let at = 0

  return () => {
    if (at === digits.length) {
      digits = Buffer.from(random.bytes(BYTES_PER_ID * IDS_PER_DRAW)).toString('hex')
      at = 0
    }
    const from = at
    at += 2 * BYTES_PER_ID
    const variant = VARIANTS[digits.charCodeAt(from + 16) & 3]
    return `${digits.slice(from, from + 8)}-${digits.slice(from + 8, from + 12)}-4${digits.slice(from + 13, from + 16)}-${variant}${digits.slice(from + 17, from + 20)}-${digits.slice(from + 20, from + 32)}`
  }
}
