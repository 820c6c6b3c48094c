/**
 * Helpers over raw header lists: `[name, value, name, value, …]` as received, names in any case,
 * values as byte strings (latin1). Nothing here allocates unless it has to.
 */
export type RawHeaders = readonly string[]

const COMMA = 0x2c
const SPACE = 0x20
const TAB = 0x09

/** Whether `text` is `lower` in any ASCII case; `lower` is in lower case already. */
export function equalsIgnoreCase(text: string, lower: string): boolean {
  return text.length === lower.length && startsWithIgnoreCase(text, lower)
}

export function startsWithIgnoreCase(text: string, lower: string): boolean {
  if (text.length < lower.length) return false
  for (let i = 0; i < lower.length; i++) {
    const code = text.charCodeAt(i)
    const folded = code >= 0x41 && code <= 0x5a ? code | 0x20 : code
    if (folded !== lower.charCodeAt(i)) return false
  }
  return true
}

/** The value of the first field of that name. */
export function findField(rawHeaders: RawHeaders, lowerName: string): string | undefined {
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (equalsIgnoreCase(rawHeaders[i] ?? '', lowerName)) return rawHeaders[i + 1]
  }
  return undefined
}

/** The values of all fields of that name, joined as RFC 9110 section 5.3 says; `''` without any. */
export function joinFields(rawHeaders: RawHeaders, lowerName: string): string {
  let joined = ''
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (!equalsIgnoreCase(rawHeaders[i] ?? '', lowerName)) continue
    const value = rawHeaders[i + 1] ?? ''
    if (value !== '') joined = joined === '' ? value : `${joined}, ${value}`
  }
  return joined
}

/** Whether a comma-separated list names `lowerItem`, in any case. */
export function hasListItem(list: string, lowerItem: string): boolean {
  for (let start = 0; start <= list.length; ) {
    const end = findComma(list, start)
    if (equalsIgnoreCase(trimBlanks(list, start, end), lowerItem)) return true
    start = end + 1
  }
  return false
}

/** Index of the next comma from `start`, or the length of the list. */
export function findComma(list: string, start: number): number {
  let end = start
  while (end < list.length && list.charCodeAt(end) !== COMMA) end++
  return end
}

/** `text` from `start` to `end` without the spaces and tabs around it. */
export function trimBlanks(text: string, start = 0, end = text.length): string {
  let from = start
  let to = end
  while (from < to && isBlank(text.charCodeAt(from))) from++
  while (to > from && isBlank(text.charCodeAt(to - 1))) to--
  return from === 0 && to === text.length ? text : text.slice(from, to)
}

function isBlank(code: number): boolean {
  return code === SPACE || code === TAB
}
