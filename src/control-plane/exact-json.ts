import { randomBytes } from 'node:crypto'

/** Where a number may stand that JavaScript would change by reading it. */
const LONG_NUMBER = /\d{16}|\d[eE]/
const NUMBER_CHARS = '0123456789.eE+-'
/** `1e5`; shorter ones are as exact as they look. */
const CHANGING_LENGTH_MIN = 3
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/
const COLON = /\s*:/y
/** Nobody outside ever sees it, so no text can begin with it but by us. */
const MARK = randomBytes(9).toString('base64url')

const QUOTE = 0x22
const BACKSLASH = 0x5c
const MINUS = 0x2d
const ZERO = 0x30
const NINE = 0x39

/** Of the platform, which its types do not know yet. */
const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown }

/**
 * `JSON.parse`, but a number that would not come out as it was written (a 64-bit id, say) becomes an
 * object that `JSON.stringify` writes as it was. Meant for at most 64 levels.
 */
export function parseExactly(text: string): unknown {
  const spans = LONG_NUMBER.test(text) ? findChanging(text) : []
  if (spans.length === 0) return JSON.parse(text)
  const pieces: string[] = []
  let from = 0
  for (const [start, end] of spans) {
    pieces.push(text.slice(from, start), `"${MARK}${text.slice(start, end)}"`)
    from = end
  }
  pieces.push(text.slice(from))
  // A reviver would do this in fewer lines, and hold up the thread for half a minute on a long list.
  return restore(JSON.parse(pieces.join('')))
}

/** Numbers outside strings that do not survive `Number`; what is no valid JSON is left to the parser. */
function findChanging(text: string): [start: number, end: number][] {
  const spans: [number, number][] = []
  let isInString = false
  for (let index = 0; index < text.length; index++) {
    const char = text.charCodeAt(index)
    if (isInString) {
      if (char === BACKSLASH) index++
      else if (char === QUOTE) isInString = false
    } else if (char === QUOTE) isInString = true
    else if (char === MINUS || (char >= ZERO && char <= NINE)) {
      const end = findEnd(text, index)
      if (end - index >= CHANGING_LENGTH_MIN && isChanging(text.slice(index, end)) && !isName(text, end)) {
        spans.push([index, end])
      }
      index = end - 1
    }
  }
  return spans
}

/** Of the number that begins at `index`. */
function findEnd(text: string, index: number): number {
  let end = index + 1
  while (NUMBER_CHARS.includes(text.charAt(end)) && end < text.length) end++
  return end
}

function isName(text: string, index: number): boolean {
  COLON.lastIndex = index
  return COLON.test(text)
}

function isChanging(digits: string): boolean {
  const value = Number(digits)
  return !Number.isSafeInteger(value) && String(value) !== digits && NUMBER.test(digits)
}

function restore(value: unknown): unknown {
  if (typeof value === 'string') return value.startsWith(MARK) ? rawJSON(value.slice(MARK.length)) : value
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) value[index] = restore(value[index])
    return value
  }
  for (const [name, part] of Object.entries(value)) {
    const restored = restore(part)
    // Not by assignment: the name may be __proto__.
    if (restored !== part) Object.defineProperty(value, name, { value: restored })
  }
  return value
}
