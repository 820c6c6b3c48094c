/** '000' to '999'. */
const GROUPS: readonly string[] = Array.from({ length: 1000 }, (_, n) => String(n).padStart(3, '0'))
/** '0' to '999'. */
const SMALL: readonly string[] = Array.from({ length: 1000 }, (_, n) => String(n))

/** All but the last three digits of the last large number: what is counted down has them again. */
let recentThousands = -1
let recentText = ''

/** Three digits of a whole number from 0 to 999; `'000'` for anything else. */
export function toThreeDigits(n: number): string {
  return GROUPS[n] ?? '000'
}

/**
 * The digits of a whole number from 0 to `Number.MAX_SAFE_INTEGER`, for numbers that are hardly ever
 * the same twice. V8 keeps what `String` makes of them in a table: there they outlive several young
 * collections and end in the old generation, so that whole collections become frequent.
 */
export function toDecimal(n: number): string {
  if (n < 1000) return SMALL[n] ?? String(n)
  const thousands = Math.floor(n / 1000)
  const last = toThreeDigits(n - thousands * 1000)
  if (thousands < 1000) return `${SMALL[thousands]}${last}`
  if (thousands !== recentThousands) {
    recentText = writeThousands(thousands)
    recentThousands = thousands
  }
  return recentText + last
}

function writeThousands(n: number): string {
  if (n < 1000) return SMALL[n] ?? ''
  const thousands = Math.floor(n / 1000)
  return writeThousands(thousands) + toThreeDigits(n - thousands * 1000)
}
