const HOST_LENGTH_MAX = 259
const PORT_MAX = 65_535
const COLON = 0x3a
const DOT = 0x2e
const HYPHEN = 0x2d
const UNDERSCORE = 0x5f
const OPENING_BRACKET = 0x5b

/**
 * Takes the value of a Host field: a name, an IPv4 address or an IPv6 address in brackets, with a
 * port or without. Gives the host to route by: in lower case, without port and trailing dot;
 * `undefined` where the value is empty or holds anything else. Stricter than RFC 3986, which lets
 * names hold commas, quotes and percent-encoding: those end up in lists and log lines.
 */
export function parseHost(value: string): string | undefined {
  if (value === '' || value.length > HOST_LENGTH_MAX) return undefined
  const end = value.charCodeAt(0) === OPENING_BRACKET ? findAddressEnd(value) : findNameEnd(value)
  if (end <= 0 || !isPortFrom(value, end)) return undefined
  const nameEnd = value.charCodeAt(end - 1) === DOT ? end - 1 : end
  return value.slice(0, nameEnd).toLowerCase()
}

/** End of a name of letters, digits, hyphens, underscores and single inner dots; -1 for another. */
function findNameEnd(value: string): number {
  let previous = DOT
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i)
    if (code === COLON) return i
    if (code === DOT ? previous === DOT : !isNameCharacter(code)) return -1
    previous = code
  }
  return value.length
}

function isNameCharacter(code: number): boolean {
  return isAlphanumeric(code) || code === HYPHEN || code === UNDERSCORE
}

/** End of an IPv6 address, behind its bracket; -1 where it holds anything else. */
function findAddressEnd(value: string): number {
  let colons = 0
  for (let i = 1; i < value.length; i++) {
    const character = value.charAt(i)
    if (character === ']') return colons >= 2 ? i + 1 : -1
    if (character === ':') colons++
    else if (!isHexadecimal(value.charCodeAt(i)) && character !== '.') return -1
  }
  return -1
}

/** Whether nothing, or a colon and a port, is left from `start`. The port may be empty. */
function isPortFrom(value: string, start: number): boolean {
  if (start === value.length) return true
  if (value.charCodeAt(start) !== COLON || value.length - start > 6) return false
  let port = 0
  for (let i = start + 1; i < value.length; i++) {
    const digit = value.charCodeAt(i) - 0x30
    if (digit < 0 || digit > 9) return false
    port = port * 10 + digit
  }
  return port <= PORT_MAX
}

function isAlphanumeric(code: number): boolean {
  const folded = code | 0x20
  return (code >= 0x30 && code <= 0x39) || (folded >= 0x61 && folded <= 0x7a)
}

function isHexadecimal(code: number): boolean {
  const folded = code | 0x20
  return (code >= 0x30 && code <= 0x39) || (folded >= 0x61 && folded <= 0x66)
}
