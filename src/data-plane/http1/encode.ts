const LF = '\n'
export const COLON = ': '
export const END = '\r\n'

/*
 * Heads as text, one character for each byte. Fields come from strict parsers, the checked
 * configuration and our own hands; that none of them ends its line before its time is made sure of
 * once more, by counting lines.
 */

export function encodeFields(fields: readonly string[]): string {
  let text = ''
  for (let i = 0; i < fields.length; i += 2) text += (fields[i] ?? '') + COLON + (fields[i + 1] ?? '') + END
  return text
}

/** The head as it is; throws where it has more or fewer lines than it was made of. */
export function assertLines(head: string, lines: number): string {
  let found = 0
  for (let at = head.indexOf(LF); at >= 0; at = head.indexOf(LF, at + 1)) found++
  if (found !== lines) throw new TypeError('a head is unfit for the wire')
  return head
}
