/** Something wrong in the configuration, and where. Neither text ever holds a secret. */
export interface Problem {
  readonly file: string
  /** From 1. */
  readonly line: number
  /** From 1, in UTF-16 units. */
  readonly column: number
  readonly message: string
  /** The line of the file, secrets masked; empty where there is none to show. */
  readonly source: string
}

const SOURCE_CHARS_MAX = 120
const CHARS_BEFORE_CARET = 80

/** `FILE:LINE:COLUMN: message`, then the line of the file and a caret under the place. */
export function formatProblem(problem: Problem): string {
  const { file, line, column, message, source } = problem
  const head = toPrintable(`${file}:${line}:${column}: ${message}`)
  if (source.trim() === '') return head
  const start = Math.max(0, column - 1 - CHARS_BEFORE_CARET)
  const shown = toPrintable(source.slice(start, start + SOURCE_CHARS_MAX))
  // Tabs stay tabs, so that the caret stands where the terminal puts the character.
  const padding = shown.slice(0, column - 1 - start).replace(/[^\t]/g, ' ')
  return `${head}\n  ${shown}\n  ${padding}^`
}

/** Control characters could move a terminal's cursor or forge log lines. */
function toPrintable(text: string): string {
  return text.replace(/[^\P{Cc}\t]/gu, '\u{fffd}')
}

/** Problems in the order of the file; several with one text at one place count once. */
export function sortProblems(problems: readonly Problem[]): Problem[] {
  const unique = new Map(problems.map((problem) => [toIdentity(problem), problem]))
  return [...unique.values()].sort((a, b) => a.line - b.line || a.column - b.column)
}

function toIdentity(problem: Problem): string {
  return `${problem.line}:${problem.column}:${problem.message}`
}
