import { z } from 'zod'
import { toLimit } from '../app/rate-limits.ts'
import { parseTimestamp } from '../app/timestamps.ts'
import type { Expiry } from '../domain/key.ts'

/**
 * Parameters that several procedures share. `null` stands for absence, and so does `""` where a
 * text is optional, because Go clients send both (contract section 5, points 4 and 5).
 */

const COUNT_MAX = 2 ** 31 - 1
const LIST_LIMIT_MAX = 100
/** Characters; a keyspace of the configuration file has the same bound. */
const NAME_LENGTH_MAX = 256
const DESCRIPTION_LENGTH_MAX = 1024

const NAME_HINT = `must be 1 to ${NAME_LENGTH_MAX} characters without control characters`
const PREFIX_HINT = 'must be 1 to 16 letters, digits, "_" or "-"'
const TIME_HINT = 'must be an RFC 3339 time such as 2030-01-31T12:00:00Z'

/** A text that must be there; `hint` completes the sentence "NAME …". */
export function requiredText(hint = 'must be a string that is not empty') {
  return z.string(hint).min(1, hint)
}

export function optionalText() {
  return z
    .string('must be a string')
    .nullish()
    .transform((text) => (text === null || text === '' ? undefined : text))
}

export function optionalFlag() {
  return z
    .boolean('must be true or false')
    .nullish()
    .transform((flag) => flag ?? undefined)
}

/** Whole and written as a number. Infinity, which is what JSON makes of 1e400, is not. */
function wholeNumber(max: number) {
  const hint = `must be a whole number from 0 to ${max}`
  // Adding 0 turns -0 into 0.
  return z
    .int(hint)
    .min(0, hint)
    .max(max, hint)
    .overwrite((value) => value + 0)
}

function optionalNumber(max: number) {
  return wholeNumber(max)
    .nullish()
    .transform((value) => value ?? 0)
}

const rateLimitObject = z
  .object(
    {
      limit: optionalNumber(COUNT_MAX).describe('Most tokens that the bucket holds. 0: no limit of its own.'),
      refill_rate: optionalNumber(COUNT_MAX).describe(
        'Tokens added at each refill. 0: the bucket never refills.',
      ),
      refill_interval: optionalNumber(Number.MAX_SAFE_INTEGER).describe(
        'Milliseconds between refills. 0: the bucket never refills.',
      ),
    },
    'must be an object',
  )
  .nullish()

export const rateLimit = rateLimitObject.transform(toLimit)

/** In an update absence changes nothing, while `null` and `limit: 0` take the own limit away. */
export const rateLimitChange = rateLimitObject.transform((view) =>
  view === undefined ? undefined : (toLimit(view) ?? null),
)

const timestamp = z.string(TIME_HINT).nullish()

export const expiresAt = timestamp
  .transform((text, context) => toExpiryChange(text, context) ?? undefined)
  .describe(
    'RFC 3339, any offset, at most nine fraction digits. Wins over `expires_in`. The zero time is none.',
  )

/** In an update absence changes nothing, while `null`, `""` and the zero time take the expiry away. */
export const expiresAtChange = timestamp
  .transform(toExpiryChange)
  .describe('RFC 3339. Wins over `expires_in`. `null` or the zero time takes the expiry away.')

export const expiresIn = optionalNumber(Number.MAX_SAFE_INTEGER).describe(
  'Milliseconds from now until the key expires. 0: not said.',
)

export const listOptions = z
  .object(
    {
      page: optionalNumber(Number.MAX_SAFE_INTEGER).describe('From 1; 0 is 1.'),
      limit: optionalNumber(LIST_LIMIT_MAX).describe('Items on a page; 0 is 10.'),
    },
    'must be an object',
  )
  .nullish()
  .transform((list) => list ?? {})

export const keyspaceName = z
  .string(NAME_HINT)
  .regex(new RegExp(`^[^\\p{Cc}\\p{Cs}]{1,${NAME_LENGTH_MAX}}$`, 'u'), NAME_HINT)

export const keysPrefix = z.string(PREFIX_HINT).regex(/^[A-Za-z0-9_-]{1,16}$/, PREFIX_HINT)

export const description = z
  .string('must be a string')
  .max(DESCRIPTION_LENGTH_MAX, `must have at most ${DESCRIPTION_LENGTH_MAX} characters`)
  .refine((text) => text.isWellFormed(), 'must be well-formed Unicode')

/** An empty text is unset, so that what it would have named stays as it is. */
export function unlessEmpty<T extends z.ZodType<string>>(schema: T) {
  return z.preprocess((text) => (text === '' || text === null ? undefined : text), schema.optional())
}

function toExpiryChange(
  text: string | null | undefined,
  context: { addIssue(issue: { code: 'custom'; message: string }): void },
): Expiry | null | undefined {
  if (text === undefined) return undefined
  if (text === null || text === '') return null
  const parsed = parseTimestamp(text)
  switch (parsed.kind) {
    case 'instant':
      return parsed.expiry
    case 'unset':
      return null
    case 'invalid':
      context.addIssue({ code: 'custom', message: TIME_HINT })
      return z.NEVER
  }
}
