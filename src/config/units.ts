import { z } from 'zod'

const MS_PER_UNIT = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
])
const BYTES_PER_UNIT = new Map([
  ['B', 1],
  ['KiB', 1024],
  ['MiB', 1024 ** 2],
  ['GiB', 1024 ** 3],
])

const DURATION = /^(\d{1,16})(ms|s|m|h|d)$/
const SIZE = /^(\d{1,16})(B|KiB|MiB|GiB)$/

const DURATION_HINT = 'must be a duration such as 500ms, 10s or 5m, or a whole number of milliseconds'
const SIZE_HINT = 'must be a size such as 64KiB or 10MiB, or a whole number of bytes'

/** The longest wait that a timer of the platform can hold: about 24.8 days. */
const TIMER_MS_MAX = 2 ** 31 - 1

interface Range {
  readonly min?: number
  readonly max?: number
}

/** Milliseconds of `10s` and the like; `undefined` for any other text. May exceed 2^53. */
export function parseDurationMs(text: string): number | undefined {
  return parseQuantity(text, DURATION, MS_PER_UNIT)
}

/** Bytes of `64KiB` and the like; `undefined` for any other text. May exceed 2^53. */
export function parseSizeBytes(text: string): number | undefined {
  return parseQuantity(text, SIZE, BYTES_PER_UNIT)
}

/** A schema field: takes a duration, gives whole milliseconds. The default range is that of a timer. */
export function durationField(range: Range = {}) {
  const { min = 0, max = TIMER_MS_MAX } = range
  return z
    .union([z.string().regex(DURATION, { error: DURATION_HINT }), plainNumber(min, max)], {
      error: DURATION_HINT,
    })
    .transform((value, ctx) => {
      const ms = typeof value === 'string' ? parseDurationMs(value) : value
      return checkQuantity(ms, ctx, { hint: DURATION_HINT, unit: 'ms', min, max })
    })
}

/** A schema field: takes a size, gives whole bytes. */
export function sizeField(range: Range = {}) {
  const { min = 0, max = Number.MAX_SAFE_INTEGER } = range
  return z
    .union([z.string().regex(SIZE, { error: SIZE_HINT }), plainNumber(min, max)], { error: SIZE_HINT })
    .transform((value, ctx) => {
      const bytes = typeof value === 'string' ? parseSizeBytes(value) : value
      return checkQuantity(bytes, ctx, { hint: SIZE_HINT, unit: 'bytes', min, max })
    })
}

/** The range is checked with that of texts; here it only informs editors. */
function plainNumber(min: number, max: number) {
  return z.number().meta({ type: 'integer', minimum: min, maximum: max })
}

function checkQuantity(
  value: number | undefined,
  ctx: z.core.$RefinementCtx,
  rule: { readonly hint: string; readonly unit: string; readonly min: number; readonly max: number },
): number {
  const { hint, unit, min, max } = rule
  if (value === undefined || value < 0 || (value <= max && !Number.isInteger(value))) {
    ctx.addIssue(hint)
    return z.NEVER
  }
  if (value < min) ctx.addIssue(`must be at least ${min} ${unit}`)
  if (value > max) ctx.addIssue(`must be at most ${max} ${unit}`)
  return value
}

function parseQuantity(
  text: string,
  pattern: RegExp,
  units: ReadonlyMap<string, number>,
): number | undefined {
  const [, digits, unit] = pattern.exec(text) ?? []
  const factor = units.get(unit ?? '')
  return digits === undefined || factor === undefined ? undefined : Number(digits) * factor
}
