import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadConfig } from '../../src/config/load.ts'
import { formatProblem } from '../../src/config/problem.ts'

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'dripgate-config-'))
})
afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
})

function load(text: string, env: Record<string, string> = {}) {
  const file = join(folder, 'gateway.yaml')
  writeFileSync(file, text)
  return loadConfig({ file, env })
}

/** Substitutes into a setting that takes any text. */
function readText(yaml: string, env: Record<string, string> = {}) {
  const result = load(`store:\n  path: ${yaml}\n`, env)
  return result.kind === 'ok'
    ? result.config.store.path
    : result.problems.map((problem) => problem.message).join()
}

function readWorkers(yaml: string, env: Record<string, string> = {}) {
  const result = load(`gateway:\n  workers: ${yaml}\n`, env)
  return result.kind === 'ok'
    ? result.config.gateway.workers
    : result.problems.map((problem) => problem.message).join()
}

describe('substitution', () => {
  test.each([
    ['"${A}"', 'x'],
    ['${A}', 'x'],
    ["'${A}'", 'x'],
    ['a-${A}-${B:-y}', 'a-x-y'],
    ['"${EMPTY:-preset}"', 'preset'],
    ['"a${EMPTY}"', 'a'],
    ['"${NONE:-http://h:1/p?q=1}"', 'http://h:1/p?q=1'],
    ['"$${A}"', '${A}'],
    ['"$$$${A}"', '$${A}'],
    ['"$$${A}"', '$x'],
    ['"5$ $A"', '5$ $A'],
    ['"${NONE:-$$}"', '$$'],
    ['>-\n    ${A}\n    z', 'x z'],
  ])('%s gives %s', (yaml, text) => {
    expect(readText(yaml, { A: 'x', EMPTY: '' })).toBe(text)
  })

  test('what was put in is not searched again', () => {
    expect(readText('"${A}"', { A: '${B}$$', B: 'no' })).toBe('${B}$$')
  })

  test('a value that is one unquoted ${…} may be a number, a quoted one is text', () => {
    expect(readWorkers('${N}', { N: '3' })).toBe(3)
    expect(readWorkers('${N:-2}')).toBe(2)
    expect(readWorkers('"${N}"', { N: '3' })).toContain('must be auto or a whole number')
    expect(readWorkers('${N}${M}', { N: '1', M: '2' })).toContain('must be auto or a whole number')
    const result = load('gateway:\n  share_port: ${S}\n', { S: 'true' })
    expect(result.kind === 'ok' && result.config.gateway.share_port).toBe(true)
  })

  test.each([
    '{a: 1}',
    '[1, 2]',
    'a\nlisten: x',
    'a # b',
    '&a',
    '*a',
    '!!int 3',
    '- 1',
    '"',
    "'",
    'null',
    '~',
    'a: b',
  ])('YAML in a variable stays text: %j', (value) => {
    expect(readText('${A}', { A: value })).toBe(value)
    expect(readText('"${A}"', { A: value })).toBe(value)
    const result = load('access: 1\nstore: {path: "${A}"}\n', { A: value })
    expect(result.kind === 'invalid' && result.problems.length).toBe(1)
  })

  test('whatever a variable holds, only its own setting changes', () => {
    const plain = load('store: {path: "x"}')
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1 }), (value) => {
        const result = load('store: {path: "${A}"}', { A: value })
        expect(result.kind === 'ok' && result.config.store.path).toBe(value)
        if (result.kind !== 'ok' || plain.kind !== 'ok') return
        expect({ ...result.config, store: plain.config.store }).toEqual(plain.config)
      }),
      { seed: 11, numRuns: 200 },
    )
  })

  test('an empty variable is empty text, also unquoted', () => {
    const result = load('admin:\n  root_token: ${TOKEN:-}\n')
    expect(result.kind === 'ok' && result.config.admin.root_token).toBeUndefined()
    expect(result.kind).toBe('ok')
  })

  test('a file is read without its last line break', () => {
    const secret = join(folder, 'secret')
    writeFileSync(secret, '0123456789abcdef\n')
    const result = load(`admin:\n  root_token: "\${file:${secret}}"\n`)
    expect(result.kind === 'ok' && result.config.admin.root_token).toBe('0123456789abcdef')
  })

  test('anchors carry what was put in', () => {
    const result = load('store:\n  path: &p "${A}"\ngateway:\n  access_log: {output: *p}\n', { A: './x' })
    expect(result.kind === 'ok' && result.config.gateway.access_log.output).toBe('./x')
  })

  test('keys are left alone', () => {
    const result = load('"${A}": 1\n', { A: 'gateway' })
    expect(result.kind === 'invalid' && result.problems[0]?.message).toBe('unknown setting "${A}"')
  })

  test('names that every object inherits are not in the environment', () => {
    expect(readText('"${constructor}"')).toContain('environment variable constructor is not set')
  })
})

describe('what cannot be substituted', () => {
  test.each([
    ['"${NONE}"', 'the environment variable NONE is not set; set it, or write ${NONE:-default}'],
    ['"${file:/does/not/exist}"', 'cannot read the file "/does/not/exist": there is no such file'],
    ['"${file:/}"', 'cannot read the file "/": it is a folder'],
    ['"${1A}"', 'only ${NAME}, ${NAME:-default} and ${file:PATH} are known'],
    ['"${A-x}"', 'only ${NAME}, ${NAME:-default} and ${file:PATH} are known'],
    ['"${}"', 'only ${NAME}, ${NAME:-default} and ${file:PATH} are known'],
    ['"${A"', 'a "${" is not closed'],
  ])('%s is an error at that value', (yaml, message) => {
    const result = load(`gateway:\n  workers: ${yaml}\n`, { A: 'x' })
    expect(result.kind === 'invalid' && result.problems).toMatchObject([
      { line: 2, column: 12, message: expect.stringContaining(message) },
    ])
  })

  test('all missing ones are told at once, without faults that follow from them', () => {
    const text = 'gateway:\n  listen: "${A}"\n  workers: ${B}\nupstreams:\n  o: {targets: ["${C}"]}\n'
    const result = load(text)
    expect(result.kind === 'invalid' && result.problems.map(({ line, column }) => [line, column])).toEqual([
      [2, 11],
      [3, 12],
      [5, 17],
    ])
  })

  test('an unquoted one inside braces gets a hint', () => {
    const result = load('gateway: {listen: ${A}}\n', { A: ':1' })
    expect(result.kind === 'invalid' && result.problems[0]?.message).toContain('put ${…} in quotes here')
  })
})

describe('secrets', () => {
  const SECRET = 'hunter2hunter2!'

  function explain(text: string, env: Record<string, string> = {}): string {
    const result = load(text, env)
    expect(result.kind).toBe('invalid')
    return result.kind === 'invalid' ? result.problems.map(formatProblem).join('\n') : ''
  }

  test.each([
    `admin: {root_token: "${SECRET}", listen: x}`,
    `admin:\n  root_token: ${SECRET}\n`,
    `admin:\n  rot_token: ${SECRET}\n`,
    `admin:\n  root_token: |\n    ${SECRET}\n   x\n`,
    `admin:\n  root_token: "${SECRET}\n`,
    `admin: {root_token: ${SECRET}\nx: [\n`,
    `admin: {root_token: &t ${SECRET}}\nx: *t\n`,
    `upstreams: {a: {targets: ["http://user:${SECRET}@h"]}}`,
    `routes: [{upstream: a, headers: {request: {set: {authorization: "${SECRET}\\n"}}}}]`,
    `admin: {root_token: "\${NONE:-${SECRET}}"}`,
    `admin: {root_token: "x" "${SECRET}"}`,
  ])('a token in the file is not shown: %j', (text) => {
    expect(explain(text)).not.toContain(SECRET)
  })

  test.each([
    'admin: {root_token: "${S}"}',
    'gateway: {listen: "${S}", workers: "${S}", engine: "${S}", trusted_proxies: ["${S}"], http2: "${S}"}',
    'gateway: {tls: {cert: "${S}", key: "${S}"}, timeouts: "${S}"}',
    'upstreams: {a: {targets: ["${S}"], balance: "${S}"}}\nroutes: [{upstream: "${S}"}, {upstream: "${S}", name: "${S}"}]',
    'keyspaces: [{ksid: "${S}", name: "${S}"}, {ksid: "${S}", name: "${S}", keys_prefix: "${S}"}]',
    'routes: [{upstream: a, keyspace: "${S}", match: {path: "${S}", hosts: ["${S} "], headers: {a: "${S}\\n"}}}]',
  ])('a substituted value is not shown: %j', (text) => {
    expect(explain(text, { S: SECRET })).not.toContain(SECRET)
  })

  test('no header for a collector is shown, whatever it is called', () => {
    const otlp = `otlp: {endpoint: x, headers: {x-team: "${SECRET}"}}`
    expect(explain(`gateway: {tracing: {${otlp}}}`)).toContain('x-team: ***')
    expect(explain(`gateway: {tracing: {${otlp}}}`)).not.toContain(SECRET)
  })

  test('the text around a masked secret keeps its place', () => {
    expect(explain(`admin: {root_token: "${SECRET}", listen: x}`)).toContain(
      `  admin: {root_token: ${'*'.repeat(SECRET.length + 2)}, listen: x}\n${' '.repeat(49)}^`,
    )
  })
})
