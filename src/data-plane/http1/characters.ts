/*
 * Which octets may stand where (RFC 9110 section 5.6.2 and 5.5, RFC 9112 section 3.2): tables of
 * 256 entries, 1 for yes.
 */

export const CR = 0x0d
export const LF = 0x0a
export const SPACE = 0x20
export const TAB = 0x09
export const COLON = 0x3a

/** Methods and field names. */
export const TOKEN: Uint8Array = listOctets((code) =>
  "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".includes(
    String.fromCharCode(code),
  ),
)

/** Field values: everything but control characters, the tab excepted. */
export const FIELD_VALUE: Uint8Array = listOctets((code) => code === TAB || (code >= SPACE && code !== 0x7f))

/** Request targets: visible ASCII. Which of it makes a target is decided later. */
export const TARGET: Uint8Array = listOctets((code) => code > SPACE && code < 0x7f)

/** The value of a hexadecimal digit; -1 for any other octet. */
export function toHexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30
  const folded = code | 0x20
  return folded >= 0x61 && folded <= 0x66 ? folded - 0x57 : -1
}

function listOctets(isIn: (code: number) => boolean): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, code) => (isIn(code) ? 1 : 0))
}
