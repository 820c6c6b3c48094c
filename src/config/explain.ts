import type { z } from 'zod'
import { toJsonSchema } from './json-schema.ts'
import { suggestName } from './nearest-name.ts'
import type { Path, Place } from './source.ts'

/** A fault of the values, before it is tied to a line. */
export interface Finding {
  readonly path: Path
  readonly place: Place
  readonly message: string
}

const WORDS = new Map([
  ['string', 'text'],
  ['number', 'a number'],
  ['int', 'a whole number'],
  ['boolean', 'true or false'],
  ['array', 'a list'],
  ['object', 'a mapping of settings'],
  ['record', 'a mapping of names'],
])

/** Words for what the schema itself has no words for; made to follow the name of the setting. */
export function explainIssue(issue: z.core.$ZodRawIssue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      return explainType(issue.expected, issue.input)
    case 'invalid_value':
      return `must be one of ${issue.values.map(String).join(', ')}`
    case 'too_small':
      return `must ${toBound(issue.origin)} at least ${issue.minimum}${toUnit(issue.origin)}`
    case 'too_big':
      return `must ${toBound(issue.origin)} at most ${issue.maximum}${toUnit(issue.origin)}`
    default:
      return undefined
  }
}

/** `raw` is what was checked. An issue that names several keys gives several findings. */
export function toFindings(issues: readonly z.core.$ZodIssue[], raw: unknown): Finding[] {
  const schema = issues.some(({ code }) => code === 'unrecognized_keys') ? toJsonSchema() : {}
  return issues.flatMap((issue) => {
    const path = issue.path.map((step) => (typeof step === 'number' ? step : String(step)))
    if (issue.code !== 'unrecognized_keys') return [toFinding(issue, path, raw)]
    const known = listKnownNames(schema, path)
    // That name was reported when the file was parsed.
    const keys = issue.keys.filter((key) => key !== '__proto__')
    return keys.map((key) => toUnknownKey(path, key, known))
  })
}

function toFinding(issue: z.core.$ZodIssue, path: Path, raw: unknown): Finding {
  const subject = toSubject(path)
  if (issue.code === 'invalid_key') {
    const reason = issue.issues[0]?.message ?? 'is not a valid name'
    return { path, place: 'key', message: `the name of ${subject} ${reason}` }
  }
  const isRefused = issue.code === 'invalid_type' && issue.expected === 'never'
  const message = `${subject} ${issue.message}${suggestValue(issue, path, raw)}`
  return { path, place: isRefused ? 'key' : 'value', message }
}

/** `routes[0].match.path`. */
export function toSubject(path: Path): string {
  if (path.length === 0) return 'the configuration'
  return path
    .map((step) => (typeof step === 'number' ? `[${step}]` : `.${toName(step)}`))
    .join('')
    .replace(/^\./, '')
}

function toName(step: string): string {
  return /^[\w-]{1,64}$/.test(step) ? step : JSON.stringify(step.slice(0, 64))
}

function toUnknownKey(path: Path, key: string, known: readonly string[]): Finding {
  const where = path.length === 0 ? '' : ` in ${toSubject(path)}`
  const tail = suggestName(key, known)
  const name = JSON.stringify(key.slice(0, 64))
  return { path: [...path, key], place: 'key', message: `unknown setting ${name}${where}${tail}` }
}

/** Names that may stand in the mapping at this path, read off the JSON Schema. */
function listKnownNames(root: unknown, path: Path): string[] {
  let schema = root
  for (const step of path) {
    const named = typeof step === 'string' ? getMember(getMember(schema, 'properties'), step) : undefined
    schema = named ?? getMember(schema, typeof step === 'number' ? 'items' : 'additionalProperties')
  }
  const properties = getMember(schema, 'properties')
  return typeof properties === 'object' && properties !== null ? Object.keys(properties) : []
}

/** An own member of a mapping or list; `undefined` for anything else. */
export function getMember(value: unknown, name: string | number): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
  return Object.getOwnPropertyDescriptor(value, name)?.value
}

function suggestValue(issue: z.core.$ZodIssue, path: Path, raw: unknown): string {
  if (issue.code !== 'invalid_value') return ''
  const value = path.reduce(getMember, raw)
  return typeof value === 'string' ? suggestName(value, issue.values.map(String)) : ''
}

function explainType(expected: string, input: unknown): string {
  if (input === undefined) return 'is missing'
  const wanted = WORDS.get(expected) ?? expected
  if (input === null) return `is empty: give it ${wanted}, or remove it`
  const isPlain = typeof input === 'number' || typeof input === 'boolean'
  if (expected === 'string' && isPlain) return 'must be text: put it in quotes'
  return `must be ${wanted}, not ${toKind(input)}`
}

function toKind(input: unknown): string {
  if (Array.isArray(input)) return 'a list'
  if (typeof input === 'object') return 'a mapping'
  return WORDS.get(typeof input) ?? 'that'
}

function toBound(origin: string): string {
  return origin === 'array' || origin === 'string' ? 'have' : 'be'
}

function toUnit(origin: string): string {
  if (origin === 'array') return ' entries'
  return origin === 'string' ? ' characters' : ''
}
