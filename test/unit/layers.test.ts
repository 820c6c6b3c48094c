import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const repository = path.resolve(import.meta.dirname, '../..')
let copy: string

beforeEach(() => {
  copy = mkdtempSync(path.join(tmpdir(), 'dripgate-layers-'))
})

afterEach(() => {
  rmSync(copy, { recursive: true, force: true })
})

function checkLayers(): { passed: boolean; output: string } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [path.join(repository, 'scripts/check-layers.mjs'), copy],
    { encoding: 'utf8' },
  )
  return { passed: status === 0, output: stdout + stderr }
}

function write(files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    const file = path.join(copy, 'src', name)
    mkdirSync(path.dirname(file), { recursive: true })
    writeFileSync(file, text)
  }
}

/** One module of each layer, and one import along each kind of permitted edge. */
const LEGAL = {
  'main.ts': `import './gateway.ts'\nimport '../package.json'`,
  'gateway.ts': `import './worker.ts'\nimport './storage-worker.ts'\nimport './config/load.ts'\nimport 'node:http'`,
  'worker.ts': `import './data-plane/pipeline.ts'\nimport './stores/a.ts'\nimport './telemetry/a.ts'`,
  'storage-worker.ts': `import './stores/a.ts'`,
  'config/schema.ts': `import { z } from 'zod'\nimport '../domain/a.ts'\nexport type Config = z.output<z.ZodString>`,
  'config/load.ts': `import './schema.ts'`,
  'data-plane/pipeline.ts': `import type { Config } from '../config/schema.ts'\nimport '../app/a.ts'\nexport type C = Config`,
  'data-plane/front/node-http.ts': `import 'node:http'`,
  'data-plane/upstream/undici.ts': `import 'undici'\nimport '../pipeline.ts'`,
  'control-plane/a.ts': `import 'node:http'\nimport '../app/a.ts'\nimport '../domain/a.ts'`,
  'stores/a.ts': `import type { T } from '../ports/a.ts'\nimport 'node:sqlite'\nexport type U = T`,
  'telemetry/a.ts': `import '../ports/a.ts'\nimport 'pino'`,
  'app/a.ts': `import 'node:crypto'\nimport '../ports/a.ts'`,
  'ports/a.ts': `import type { Duplex } from 'node:stream'\nimport '../domain/a.ts'\nexport type T = Duplex`,
  'domain/a.ts': `import './b.ts'\n// import '../app/a.ts'\nexport const text = "import('../app/a.ts')"`,
  'domain/b.ts': `export const year = new Date(0).getUTCFullYear()`,
}

it('passes on the permitted imports and says how many modules it examined', () => {
  write(LEGAL)
  const { passed, output } = checkLayers()
  expect(output).toContain(`${Object.keys(LEGAL).length} modules examined, 0 violations`)
  expect(passed).toBe(true)
})

it('fails when it examined no module', () => {
  mkdirSync(path.join(copy, 'src'))
  expect(checkLayers()).toMatchObject({
    passed: false,
    output: expect.stringContaining('0 modules examined'),
  })
})

it('fails on a violation planted in a copy of the real sources', () => {
  cpSync(path.join(repository, 'src'), path.join(copy, 'src'), { recursive: true })
  write({ 'domain/planted.ts': `export { createHash } from 'node:crypto'` })
  const { passed, output } = checkLayers()
  expect(passed).toBe(false)
  expect(output).toContain('src/domain/planted.ts:1: domain must import nothing from outside (node:crypto)')
})

describe('each rule', () => {
  const data = 'data-plane/planted.ts'
  it.each<[rule: string, file: string, text: string, message: string]>([
    ['main is imported by nobody', 'gateway.ts', `import './main.ts'`, 'gateway must not import main'],
    ['planes do not see composition', data, `import '../worker.ts'`, 'data-plane must not import worker'],
    ['siblings are strangers', data, `import '../stores/a.ts'`, 'data-plane must not import stores'],
    [
      'siblings are strangers as types',
      data,
      `import type { U } from '../stores/a.ts'`,
      'must not import stores',
    ],
    [
      'siblings are strangers to re-exports',
      data,
      `export * from '../telemetry/a.ts'`,
      'must not import telemetry',
    ],
    [
      'siblings are strangers at run time',
      data,
      `await import('../control-plane/a.ts')`,
      'import control-plane',
    ],
    ['siblings are strangers in import types', data, `type T = import('../stores/a.ts').U`, 'import stores'],
    ['stores do not see app', 'stores/planted.ts', `import '../app/a.ts'`, 'stores must not import app'],
    ['telemetry does not see app', 'telemetry/planted.ts', `import '../app/a.ts'`, 'must not import app'],
    [
      'config sees no plane',
      'config/planted.ts',
      `import '../data-plane/pipeline.ts'`,
      'must not import data-plane',
    ],
    [
      'the schema is known as a type only',
      data,
      `import { Config } from '../config/schema.ts'`,
      'import config',
    ],
    [
      'an inline type still loads',
      data,
      `import { type Config } from '../config/schema.ts'`,
      'import config',
    ],
    [
      'of config, only the schema is known',
      data,
      `import type { L } from '../config/load.ts'`,
      'import config',
    ],
    ['app does not call up', 'app/planted.ts', `import '../stores/a.ts'`, 'app must not import stores'],
    ['app has no machine', 'app/planted.ts', `import 'node:fs'`, 'but node:crypto (node:fs)'],
    ['app has no packages', 'app/planted.ts', `import 'zod'`, 'but node:crypto (zod)'],
    [
      'ports do not see app',
      'ports/planted.ts',
      `import type {} from '../app/a.ts'`,
      'ports must not import app',
    ],
    [
      'ports hold no machine',
      'ports/planted.ts',
      `import { Duplex } from 'node:stream'`,
      'only types from outside',
    ],
    [
      'domain sees only itself',
      'domain/planted.ts',
      `import type { T } from '../ports/a.ts'`,
      'import ports',
    ],
    [
      'domain knows no config',
      'domain/planted.ts',
      `import type { C } from '../config/schema.ts'`,
      'import config',
    ],
    [
      'domain has no packages',
      'domain/planted.ts',
      `import type {} from 'zod'`,
      'nothing from outside (zod)',
    ],
    ['domain has no clock', 'domain/planted.ts', `export const t = () => Date.now()`, 'without Date.now'],
    ['domain has no date of today', 'domain/planted.ts', `export const t = () => new Date()`, 'without Date'],
    [
      'domain has no chance',
      'domain/planted.ts',
      `export const r = () => Math.random()`,
      'without Math.random',
    ],
    ['domain has no promise', 'domain/planted.ts', `export type P = Promise<void>`, 'without Promise'],
    ['domain is synchronous', 'domain/planted.ts', `export async function f() {}`, 'without async'],
    ...['node:http', 'node:https', 'node:http2', 'http', 'undici', 'undici/types/pool', 'http-proxy-3'].map(
      (name): [string, string, string, string] => [
        `${name} belongs to front and upstream`,
        data,
        `import type {} from '${name}'`,
        `only data-plane/front/ and data-plane/upstream/ may import ${name}`,
      ],
    ),
    ['every module has a layer', 'helpers/planted.ts', '', 'is in no layer'],
    ['every root module has a layer', 'planted.ts', '', 'is in no layer'],
    ['imports are literal', data, `await import(process.env.X ?? '')`, 'computed name'],
    ['imports exist', data, `import './gone.ts'`, 'imports ./gone.ts, which is no module of src'],
    ['sources parse', data, `import from`, 'data-plane/planted.ts:1: '],
    [
      'no cycles',
      'domain/b.ts',
      `import './a.ts'`,
      'import cycle: domain/a.ts -> domain/b.ts -> domain/a.ts',
    ],
    ['no cycles of types', 'domain/b.ts', `import type { A } from './a.ts'`, 'import cycle: domain/a.ts'],
    ['no import of itself', data, `import './planted.ts'`, 'import cycle: data-plane/planted.ts'],
  ])('%s', (_rule, file, text, message) => {
    write({ ...LEGAL, [file]: text })
    const { passed, output } = checkLayers()
    expect(output).toContain(message)
    expect(output).toMatch(/[12] violations/)
    expect(passed).toBe(false)
  })
})
