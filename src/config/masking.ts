import { type Document, isAlias, isPair, isScalar, visit } from 'yaml'
import { findNearestName } from './nearest-name.ts'

/** Settings and header fields whose values are not shown, and misspellings of the root token. */
const SECRET_NAME = /token|secret|passw|authorization|api[-_]?key/i
/** For text that is no YAML: the rest of a line behind such a name, unless a collection opens. */
const SECRET_LINE =
  /((?:token|secret|passw\w*|authorization|api[-_]?key)["']?[ \t]*:[ \t]*)(?![[{\s])([^\r\n]+)/gi
const USER_INFO = /(:\/\/)([^/\s"'@]+)@/g
/** Nothing but a reference to the environment or a file: no secret itself. */
const REFERENCE_ONLY = /^\$\{(?:file:[^}]*|\w+(?::-)?)\}$/

/**
 * The text with every character of a secret replaced by an asterisk, all else at its place. Call
 * it before values are substituted.
 */
export function maskSecrets(text: string, doc: Document.Parsed, broken: boolean): string {
  let masked = text
  for (const [start, end] of findSecrets(doc)) {
    masked = masked.slice(0, start) + toAsterisks(masked.slice(start, end)) + masked.slice(end)
  }
  if (broken)
    masked = masked.replace(SECRET_LINE, (_, name: string, value: string) => name + toAsterisks(value))
  return masked.replace(USER_INFO, (_, slashes: string, user: string) => `${slashes}${toAsterisks(user)}@`)
}

function findSecrets(doc: Document.Parsed): [number, number][] {
  const ranges: [number, number][] = []
  visit(doc, {
    Pair: (_, pair, path) => {
      if (!isScalar(pair.key)) return
      if (!isSecretName(String(pair.key.value)) && !isInHeadersOf('otlp', path)) return
      const value = isAlias(pair.value) ? pair.value.resolve(doc) : pair.value
      if (!isScalar(value) || value.range == null || REFERENCE_ONLY.test(String(value.value))) return
      ranges.push([value.range[0], value.range[1]])
    },
  })
  return ranges
}

/** Headers for a collector are there to hold its keys, whatever they are called. */
function isInHeadersOf(owner: string, path: readonly unknown[]): boolean {
  const names = path.filter(isPair).map(({ key }) => isScalar(key) && key.value)
  return names.at(-1) === 'headers' && names.at(-2) === owner
}

function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name) || findNearestName(name, ['root_token']) !== undefined
}

function toAsterisks(text: string): string {
  return text.replace(/[^\r\n]/g, '*')
}
