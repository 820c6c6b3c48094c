const DIGITS = Uint8Array.from('0123456789abcdef', (digit) => digit.charCodeAt(0))

/** Writes `length` bytes from `from` on as lowercase hex digits into `text`, from `at` on. */
export function writeHex(
  text: Uint8Array,
  at: number,
  bytes: Uint8Array,
  from: number,
  length: number,
): void {
  for (let i = 0; i < length; i++) {
    const byte = bytes[from + i] ?? 0
    text[at + 2 * i] = DIGITS[byte >> 4] ?? 0
    text[at + 2 * i + 1] = DIGITS[byte & 15] ?? 0
  }
}
