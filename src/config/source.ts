import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  type Node,
  type Pair,
  parseDocument,
  visit,
} from 'yaml'
import { maskSecrets } from './masking.ts'
import type { Problem } from './problem.ts'

export type Path = readonly (string | number)[]

/** A place in the file: a key, or the value that it stands before. */
export type Place = 'key' | 'value'

/** A parsed file that knows where everything stands. */
export interface Source {
  readonly doc: Document.Parsed
  /** Whether the text is no YAML at all, so that nothing should be read from the document. */
  readonly broken: boolean
  /** What YAML itself has to say. */
  readonly problems: readonly Problem[]
  /** `offset` counts UTF-16 units from the start of the text. */
  problemAt(offset: number, message: string): Problem
  /** What to say when the document's aliases cannot be resolved. */
  aliasProblem(): Problem
  /** Where the path stands, or its nearest ancestor that is there. */
  locate(path: Path, place: Place): { readonly offset: number; readonly node: Node | undefined }
}

/** Parses YAML 1.2 (core schema, text keys, no key twice). Throws nothing but what `yaml` cannot survive. */
export function parseSource(file: string, text: string): Source {
  const doc = parseDocument(text, {
    version: '1.2',
    schema: 'core',
    uniqueKeys: true,
    stringKeys: true,
    prettyErrors: false,
  })
  const faults = [...doc.errors, ...doc.warnings]
  const broken = doc.errors.some((error) => error.code !== 'DUPLICATE_KEY')
  const lines = maskSecrets(text, doc, broken).split(/\r?\n/)

  const problemAt = (offset: number, message: string): Problem => {
    // What is missing at the end of the file is reported on its last line that says something.
    const before = text.slice(0, Math.min(offset, text.trimEnd().length)).split('\n')
    const column = (before.at(-1)?.length ?? 0) + 1
    return { file, line: before.length, column, message, source: lines[before.length - 1] ?? '' }
  }
  const problems = faults.map(({ code, message, pos }) => {
    const problem = problemAt(pos[0], toYamlMessage(code, message))
    const mayNeedQuotes = broken && problem.source.includes('${')
    return mayNeedQuotes ? { ...problem, message: `${problem.message}; put \${…} in quotes here` } : problem
  })
  problems.push(
    ...findForbiddenKeys(doc).map((offset) => problemAt(offset, '__proto__ is not allowed as a name')),
  )
  return {
    doc,
    broken,
    problems,
    problemAt,
    aliasProblem: () => {
      const { offset, isUnresolved } = findBadAlias(doc)
      return problemAt(
        offset,
        isUnresolved
          ? 'this alias has no anchor (&name) before it'
          : 'aliases copy too much here; write it out instead',
      )
    },
    locate: (path, place) => locateNode(doc, path, place),
  }
}

/** Messages of `yaml` may quote the text at fault, which may be a secret: cut that off. */
function toYamlMessage(code: string, message: string): string {
  if (code === 'DUPLICATE_KEY') return 'this key is already set above'
  if (code === 'MULTIPLE_DOCS') return 'a second document starts here; one file holds one configuration'
  const cut = message.replace(/: *["'`].*$/s, '').replace(/\.$/, '')
  return `this is not valid YAML: ${cut === '' ? code : cut}`
}

/** The first alias that stands for nothing; failing that, the first alias. */
function findBadAlias(doc: Document.Parsed): { readonly offset: number; readonly isUnresolved: boolean } {
  let first: number | undefined
  let unresolved: number | undefined
  visit(doc, {
    Alias: (_, alias) => {
      first ??= startOf(alias)
      if (alias.resolve(doc) === undefined) unresolved ??= startOf(alias)
    },
  })
  return { offset: unresolved ?? first ?? 0, isUnresolved: unresolved !== undefined }
}

function findForbiddenKeys(doc: Document.Parsed): number[] {
  const offsets: number[] = []
  visit(doc, {
    Pair: (_, pair) => {
      if (isScalar(pair.key) && pair.key.value === '__proto__') offsets.push(startOf(pair.key) ?? 0)
    },
  })
  return offsets
}

function locateNode(doc: Document.Parsed, path: Path, place: Place) {
  let node = toNode(doc, doc.contents)
  let key: Node | undefined
  let depth = 0
  for (const step of path) {
    const pair = findPair(node, step)
    const next = pair === undefined ? findItem(node, step) : pair.value
    if (pair === undefined && next === undefined) break
    key = pair !== undefined && isNode(pair.key) ? pair.key : undefined
    node = toNode(doc, next)
    depth += 1
  }
  const missing = depth < path.length
  const usesKey = key !== undefined && (missing || place === 'key' || isEmpty(node))
  const offset = (usesKey ? startOf(key) : startOf(node)) ?? startOf(key) ?? 0
  return { offset, node: missing ? undefined : node }
}

function findPair(node: Node | undefined, step: string | number): Pair | undefined {
  if (!isMap(node)) return undefined
  return node.items.find((pair) => isPair(pair) && isScalar(pair.key) && pair.key.value === String(step))
}

function findItem(node: Node | undefined, step: string | number): unknown {
  return isSeq(node) && typeof step === 'number' ? node.items[step] : undefined
}

function toNode(doc: Document.Parsed, value: unknown): Node | undefined {
  if (isAlias(value)) return value.resolve(doc) ?? value
  return isNode(value) ? value : undefined
}

function isEmpty(node: Node | undefined): boolean {
  return node === undefined || (isScalar(node) && node.range?.[0] === node.range?.[1])
}

function startOf(node: Node | undefined): number | undefined {
  return node?.range?.[0]
}
