import { readFileSync } from 'node:fs'
import type { Node } from 'yaml'
import { checkReferences } from './checks.ts'
import { explainIssue, type Finding, toFindings } from './explain.ts'
import { type Problem, sortProblems } from './problem.ts'
import { type Config, configSchema } from './schema.ts'
import { parseSource, type Source } from './source.ts'
import { describeFileError, type SubstitutionSources, substitute } from './substitute.ts'
import { checkTlsFiles } from './tls-files.ts'

export type LoadResult =
  | { readonly kind: 'ok'; readonly config: Config; readonly file: string }
  /** At least one problem, in the order of the file. */
  | { readonly kind: 'invalid'; readonly problems: readonly Problem[] }

/** Aliases beyond this many copies are an attack on memory, not a configuration. */
const ALIAS_COUNT_MAX = 50

/**
 * Reads and checks a configuration file: contract section 3. Everything that is wrong is reported
 * at once, with its place; no text of a problem holds the root token or a substituted value.
 * Relative paths, in the file too, start at the working directory. Never throws.
 *
 * Values may hold `${NAME}`, `${NAME:-default}` and `${file:PATH}`, and `$$` for a dollar sign;
 * keys may not. See `substitute`.
 */
export function loadConfig(options: {
  readonly file: string
  readonly env: Readonly<Record<string, string | undefined>>
  /** Gives the text of a file, or throws the system's error. */
  readonly readFile?: (path: string) => string
}): LoadResult {
  const { file, env, readFile = (path) => readFileSync(path, 'utf8') } = options
  let text: string
  try {
    text = readFile(file)
  } catch (error) {
    const message = `cannot read the configuration file: ${describeFileError(error)}. Name another with --config FILE or DRIPGATE_CONFIG; config/gateway.yaml is a commented example`
    return { kind: 'invalid', problems: [{ file, line: 1, column: 1, message, source: '' }] }
  }
  try {
    return checkText(file, text.replace(/^\u{feff}/u, ''), { env, readFile })
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    const message = 'this is nested too deeply to be a configuration'
    return { kind: 'invalid', problems: [{ file, line: 1, column: 1, message, source: '' }] }
  }
}

function checkText(file: string, text: string, sources: SubstitutionSources): LoadResult {
  const source = parseSource(file, text)
  if (source.broken) return { kind: 'invalid', problems: sortProblems(source.problems) }
  const failed = substitute(source.doc, sources)
  const plain = toPlain(source)
  if (plain.kind === 'invalid')
    return { kind: 'invalid', problems: sortProblems([...source.problems, plain.problem]) }

  const result = configSchema.safeParse(plain.value, { error: explainIssue })
  const findings = [
    ...toFindings(result.error?.issues ?? [], plain.value),
    ...checkReferences(plain.value),
    ...checkTlsFiles(plain.value, sources.readFile),
  ]
  const problems = [
    ...source.problems,
    ...findFailed(source, failed),
    ...toProblems(source, findings, failed),
  ]
  if (result.success && problems.length === 0) return { kind: 'ok', config: result.data, file }
  return { kind: 'invalid', problems: sortProblems(problems) }
}

type Plain =
  | { readonly kind: 'plain'; readonly value: unknown }
  | { readonly kind: 'invalid'; readonly problem: Problem }

function toPlain(source: Source): Plain {
  let value: unknown
  try {
    value = source.doc.toJS({ maxAliasCount: ALIAS_COUNT_MAX })
  } catch (error) {
    if (!(error instanceof ReferenceError)) throw error
    return { kind: 'invalid', problem: source.aliasProblem() }
  }
  if (value !== null && value !== undefined) return { kind: 'plain', value }
  const message = 'the configuration is empty; config/gateway.yaml is a commented example'
  return { kind: 'invalid', problem: source.problemAt(0, message) }
}

function findFailed(source: Source, failed: ReadonlyMap<Node, string>): Problem[] {
  return [...failed].map(([node, reason]) => source.problemAt(node.range?.[0] ?? 0, reason))
}

/** What follows from a value that could not be substituted is not worth telling. */
function toProblems(
  source: Source,
  findings: readonly Finding[],
  failed: ReadonlyMap<Node, string>,
): Problem[] {
  return findings.flatMap(({ path, place, message }) => {
    const { offset, node } = source.locate(path, place)
    return node !== undefined && failed.has(node) ? [] : [source.problemAt(offset, message)]
  })
}
