/** Where a number may stand that JavaScript would change by reading it. */
const LONG_NUMBER = /\d{16}|\d[eE]/

/** Of the platform, which its types do not know yet. */
const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown }

/**
 * `JSON.parse`, but a number that would not come out as it was written (a 64-bit id, say) becomes an
 * object that `JSON.stringify` writes as it was.
 */
export function parseExactly(text: string): unknown {
  return LONG_NUMBER.test(text) ? JSON.parse(text, keepNumber) : JSON.parse(text)
}

function keepNumber(_name: string, value: unknown, context?: { readonly source?: string }): unknown {
  const source = context?.source
  const isChanged = typeof value === 'number' && !Number.isSafeInteger(value) && String(value) !== source
  return isChanged && source !== undefined ? rawJSON(source) : value
}
