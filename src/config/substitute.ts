import { type Document, type Node, type Scalar, visit } from 'yaml'

export interface SubstitutionSources {
  readonly env: Readonly<Record<string, string | undefined>>
  /** Throws when the file cannot be read. */
  readonly readFile: (path: string) => string
}

const PLACE = /\$\$|\$\{([^}]*)\}|\$\{/g
const VARIABLE = /^([A-Za-z_][A-Za-z0-9_]*)(?::-([\s\S]*))?$/
const WHOLE = /^\$\{[^}]*\}$/
/** Booleans and numbers of YAML's core schema. */
const PLAIN_NUMBER = /^[-+]?(?:\d+|(?:\.\d+|\d+(?:\.\d*)?)(?:[eE][-+]?\d+)?)$/
const PLAIN_BOOLEAN = /^(?:true|True|TRUE|false|False|FALSE)$/

/**
 * Replaces, in place, `${NAME}`, `${NAME:-default}` (also where NAME is empty) and `${file:PATH}`
 * (less one line break at the end) in the values of a parsed document; `$$` gives one `$`. A value
 * that is nothing but one unquoted `${…}` may become a number or a boolean; any other stays text,
 * whatever it looks like: no collection, key, anchor or comment can come in. Keys are left alone,
 * and what was put in is not searched again. Returns the scalars that could not be replaced, each
 * with the reason, which holds no value.
 */
export function substitute(doc: Document.Parsed, sources: SubstitutionSources): ReadonlyMap<Node, string> {
  const failed = new Map<Node, string>()
  visit(doc, {
    Scalar: (position, node) => {
      if (position === 'key' || typeof node.value !== 'string' || !node.value.includes('$')) return
      const { text, reasons } = replacePlaces(node.value, sources)
      if (reasons.length > 0) failed.set(node, reasons.join('; '))
      else node.value = isWhole(node) ? readPlain(text) : text
    },
  })
  return failed
}

function replacePlaces(value: string, sources: SubstitutionSources) {
  const reasons: string[] = []
  const text = value.replace(PLACE, (place, inner: string | undefined) => {
    if (place === '$$') return '$'
    const found = inner === undefined ? undefined : resolvePlace(inner, sources)
    if (found?.kind === 'found') return found.text
    reasons.push(found?.reason ?? 'a "${" is not closed; write $$ for a dollar sign')
    return place
  })
  return { text, reasons }
}

type Resolved =
  | { readonly kind: 'found'; readonly text: string }
  | { readonly kind: 'missing'; readonly reason: string }

function resolvePlace(inner: string, sources: SubstitutionSources): Resolved {
  if (inner.startsWith('file:')) return readSecretFile(inner.slice('file:'.length), sources)
  const [, name, preset] = VARIABLE.exec(inner) ?? []
  if (name === undefined) {
    return {
      kind: 'missing',
      reason: 'only ${NAME}, ${NAME:-default} and ${file:PATH} are known; write $$ for a dollar sign',
    }
  }
  const value = Object.hasOwn(sources.env, name) ? sources.env[name] : undefined
  if (preset !== undefined)
    return { kind: 'found', text: value === undefined || value === '' ? preset : value }
  if (value !== undefined) return { kind: 'found', text: value }
  return {
    kind: 'missing',
    reason: `the environment variable ${name} is not set; set it, or write \${${name}:-default}`,
  }
}

function readSecretFile(path: string, sources: SubstitutionSources): Resolved {
  try {
    return { kind: 'found', text: sources.readFile(path).replace(/\r?\n$/, '') }
  } catch (error) {
    return {
      kind: 'missing',
      reason: `cannot read the file ${JSON.stringify(path)}: ${describeFileError(error)}`,
    }
  }
}

/** What the system said about a file, in words, without more than that. */
export function describeFileError(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const words = new Map([
    ['ENOENT', 'there is no such file'],
    ['EACCES', 'permission denied'],
    ['EPERM', 'permission denied'],
    ['EISDIR', 'it is a folder'],
    ['ENOTDIR', 'a part of its path is no folder'],
  ])
  return words.get(code) ?? (code === '' ? 'reading failed' : code)
}

function isWhole(node: Scalar): boolean {
  return node.type === 'PLAIN' && WHOLE.test(String(node.value))
}

function readPlain(text: string): string | number | boolean {
  if (PLAIN_BOOLEAN.test(text)) return text.toLowerCase() === 'true'
  return PLAIN_NUMBER.test(text) ? Number(text) : text
}
