/** What `toString` and `write` of a Buffer come down to for Latin-1; its types leave it out. */
interface Latin1Buffer {
  latin1Slice(start: number, end: number): string
  latin1Write(text: string, offset: number): number
}

/** The bytes from `start` to `end` as text, a character for each. */
export function readLatin1(bytes: Buffer, start: number, end: number): string {
  return (bytes as unknown as Latin1Buffer).latin1Slice(start, end)
}

/** Writes the text at `offset`, a byte for each character; there must be room for it. */
export function writeLatin1(bytes: Buffer, text: string, offset: number): void {
  ;(bytes as unknown as Latin1Buffer).latin1Write(text, offset)
}
