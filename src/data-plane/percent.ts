import { Buffer } from 'node:buffer'

const PERCENT = 0x25

/**
 * Undoes percent-encoding once. Takes and gives byte strings (latin1); a `%` without two
 * hexadecimal digits stays as it is, and so does `+`.
 */
export function decodePercent(text: string): string {
  if (!text.includes('%')) return text
  const bytes = Buffer.from(text, 'latin1')
  return bytes.toString('latin1', 0, decodePercentInPlace(bytes, bytes.length))
}

/** Undoes percent-encoding once in the first `length` bytes; returns how many are left. */
export function decodePercentInPlace(bytes: Uint8Array, length: number): number {
  let to = 0
  for (let from = 0; from < length; from++) {
    const byte = bytes[from] ?? 0
    const decoded = byte === PERCENT && from + 2 < length ? toByte(bytes[from + 1], bytes[from + 2]) : -1
    if (decoded >= 0) from += 2
    bytes[to++] = decoded >= 0 ? decoded : byte
  }
  return to
}

/** The byte that two hexadecimal digits stand for, given by their character codes; else -1. */
export function toByte(high = 0, low = 0): number {
  const left = toDigit(high)
  const right = toDigit(low)
  return left < 0 || right < 0 ? -1 : left * 16 + right
}

function toDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30
  const folded = code | 0x20
  return folded >= 0x61 && folded <= 0x66 ? folded - 0x57 : -1
}
