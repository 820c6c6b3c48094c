import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { loadConfig } from '../../src/config/load.ts'
import { formatProblem } from '../../src/config/problem.ts'

/** Mutations of the reference file: no crash, and every problem has its place. */
const RUNS = Number(process.env['DRIPGATE_CONFIG_RUNS'] ?? 400)
const CLI_RUNS = 2

/** With what the reference only shows in comments switched on, so that it is mutated too. */
const REFERENCE = readFileSync(new URL('../../config/gateway.yaml', import.meta.url), 'utf8')
const LINES = REFERENCE.split('\n')
  .map((line) => (/^\s+# +[a-z_]+:/.test(line) ? line.replace('# ', '') : line))
  .filter((line) => line.trim() !== '' && !line.trimStart().startsWith('#'))

const VALUES = [
  '',
  '~',
  'true',
  '0',
  '-1',
  '1e400',
  '.nan',
  '9007199254740993',
  '""',
  '"\\u0000"',
  '[]',
  '{}',
  '[[]]',
  '{ a: { b: [1, {}] } }',
  '*a',
  '&a x',
  '!!binary aGk=',
  '!!js/function x',
  '|',
  "'",
  '"',
  '${',
  '${X}',
  '${file:/}',
  '${file:/dev/null}',
  '$$',
  '__proto__',
  '/',
  '/a//b',
  '127.0.0.1:99999',
  'https://*',
  '10.0.0.0/99',
  '\t',
  '- x',
  '? x',
  '#',
  '<<: *a',
  'é\u{1f4a5}',
  'a'.repeat(5_000),
]

type Mutation = (lines: readonly string[], at: number, value: string, other: number) => string[]

const keyOf = (line: string): string => /^(\s*(?:- )?)[\w.]+:/.exec(line)?.[1] ?? ''

const MUTATIONS: readonly Mutation[] = [
  (lines, at) => lines.toSpliced(at, 1),
  (lines, at) => lines.toSpliced(at, 0, lines[at] ?? ''),
  (lines, at, _, other) => lines.toSpliced(at, 1, lines[other] ?? ''),
  (lines, at, value) => lines.with(at, (lines[at] ?? '').replace(/:(?: .*)?$/, `: ${value}`)),
  (lines, at, value) => lines.with(at, `${keyOf(lines[at] ?? '')}${value}: 1`),
  (lines, at, value) => lines.with(at, `${lines[at]}${value}`),
  (lines, at, value) => lines.with(at, (lines[at] ?? '').replace(/^\s*/, `$&${value}`)),
  (lines, at) => lines.with(at, ` ${lines[at]}`),
  (lines, at) => lines.with(at, (lines[at] ?? '').replace(/^ {1,2}/, '')),
  (lines, at, _, other) => lines.with(at, (lines[at] ?? '').slice(0, other)),
  (lines, at) =>
    lines.with(
      at,
      (lines[at] ?? '').replace(/\w/, (letter) => letter.toUpperCase()),
    ),
]

const mutated = fc
  .array(
    fc.tuple(
      fc.constantFrom(...MUTATIONS),
      fc.nat(LINES.length - 1),
      fc.constantFrom(...VALUES),
      fc.nat(LINES.length - 1),
    ),
    { minLength: 1, maxLength: 4 },
  )
  .map((steps) => {
    let lines: string[] = LINES
    for (const [mutate, at, value, other] of steps) {
      if (at < lines.length) lines = mutate(lines, at, value, other)
    }
    return lines.join('\n')
  })

/** Files that the text names are not there. */
function load(text: string) {
  return loadConfig({
    file: 'gateway.yaml',
    env: {},
    readFile: (file) => {
      if (file === 'gateway.yaml') return text
      throw Object.assign(new Error('no such file'), { code: 'ENOENT' })
    },
  })
}

test('what is mutated is nearly the whole reference', () => {
  const result = load(LINES.join('\n'))
  expect(LINES.length).toBeGreaterThan(100)
  // Alternatives that do not stand beside each other, and files that are not there.
  if (result.kind === 'invalid') expect(result.problems.length).toBeLessThan(40)
})

test(
  'no mutation of the reference makes the check crash, and every problem has its place',
  () => {
    let invalid = 0
    fc.assert(
      fc.property(mutated, (text) => {
        const result = load(text)
        if (result.kind === 'ok') return
        invalid++
        const lineCount = text.split('\n').length
        expect(result.problems.length).toBeGreaterThan(0)
        for (const problem of result.problems) {
          expect(problem.line).toBeGreaterThanOrEqual(1)
          expect(problem.line).toBeLessThanOrEqual(lineCount)
          expect(problem.column).toBeGreaterThanOrEqual(1)
          expect(problem.message).not.toBe('')
          expect(formatProblem(problem)).toMatch(/^gateway\.yaml:\d+:\d+: \S/)
        }
      }),
      { numRuns: RUNS },
    )
    expect(invalid).toBeGreaterThan(RUNS / 2)
  },
  60_000 + RUNS * 100,
)

test('the command line says the same, with exit code 78 and nothing else', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'dripgate-test-'))
  const file = path.join(directory, 'gateway.yaml')
  const main = path.resolve(import.meta.dirname, '../../src/main.ts')
  try {
    for (const text of fc.sample(mutated, { seed: 11, numRuns: CLI_RUNS })) {
      writeFileSync(file, text)
      const { status, stderr, stdout } = spawnSync(process.execPath, [main, 'check', '--config', file], {
        cwd: directory,
        encoding: 'utf8',
      })
      const expected = loadConfig({ file, env: process.env })
      if (expected.kind === 'ok') {
        expect([status, stdout]).toEqual([0, `${file}: ok\n`])
        continue
      }
      expect([status, stdout]).toEqual([78, ''])
      expect(stderr).toBe(`${expected.problems.map(formatProblem).join('\n')}\n`)
    }
  } finally {
    rmSync(directory, { recursive: true })
  }
}, 60_000)
