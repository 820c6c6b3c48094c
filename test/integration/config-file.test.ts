import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type ConfigFile, openConfigFile } from '../../src/config/config-file.ts'
import { until } from '../support/in-process.ts'

/** Watches a real file in a real folder, and counts what it is told. */

let folder: string
let file: string
let changes: number
let unwatch: (() => void) | undefined

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'dripgate-test-'))
  file = path.join(folder, 'gateway.yaml')
  changes = 0
})

afterEach(() => {
  unwatch?.()
  rmSync(folder, { recursive: true, force: true })
})

function configOf(limit: number, token = ''): string {
  const keyspace = `{ ksid: ks_a, name: a, keys_prefix: a_, ratelimit: { limit: ${limit} } }`
  return `admin: { root_token: "${token}" }\nkeyspaces: [${keyspace}]\n`
}

function watchFile(): ConfigFile {
  const source = openConfigFile({ file, env: {} })
  source.read()
  unwatch = source.watch(() => {
    changes++
    source.read()
  })
  return source
}

function limitOf(source: ConfigFile): number | undefined {
  const result = source.read()
  return result.kind === 'ok' ? result.config.keyspaces[0]?.ratelimit?.limit : undefined
}

/** Nothing more is coming: two rounds of looking have passed. */
const quiet = () => new Promise((resolve) => setTimeout(resolve, 350))

describe('a watched configuration file', () => {
  it('is seen to change when it is written in place, once', async () => {
    writeFileSync(file, configOf(1))
    const source = watchFile()
    writeFileSync(file, configOf(2))
    await until(() => changes === 1)
    expect(limitOf(source)).toBe(2)
    await quiet()
    expect(changes).toBe(1)
  })

  it('is seen to change when an editor puts another one in its place, again and again', async () => {
    writeFileSync(file, configOf(1))
    const source = watchFile()
    for (const limit of [2, 3]) {
      writeFileSync(`${file}~`, configOf(limit))
      renameSync(`${file}~`, file)
      await until(() => changes === limit - 1)
      expect(limitOf(source)).toBe(limit)
    }
    unlinkSync(file)
    await until(() => changes === 3)
    writeFileSync(file, configOf(4))
    await until(() => changes === 4)
    expect(limitOf(source)).toBe(4)
  })

  it('is seen to change when Kubernetes swaps the link to the folder that holds it', async () => {
    const put = (version: string, limit: number) => {
      mkdirSync(path.join(folder, version))
      writeFileSync(path.join(folder, version, 'gateway.yaml'), configOf(limit))
      symlinkSync(version, path.join(folder, '..data_tmp'))
      renameSync(path.join(folder, '..data_tmp'), path.join(folder, '..data'))
    }
    put('..2026_01', 1)
    symlinkSync('..data/gateway.yaml', file)
    const source = watchFile()
    expect(limitOf(source)).toBe(1)
    put('..2026_02', 2)
    rmSync(path.join(folder, '..2026_01'), { recursive: true })
    await until(() => changes === 1)
    expect(limitOf(source)).toBe(2)
    put('..2026_03', 3)
    await until(() => changes === 2)
    expect(limitOf(source)).toBe(3)
  })

  it('is seen to change with the secrets that it names, wherever they are', async () => {
    const secrets = mkdtempSync(path.join(tmpdir(), 'dripgate-test-'))
    const secret = path.join(secrets, 'root')
    writeFileSync(secret, 'first-secret-of-the-root\n')
    writeFileSync(file, configOf(1, `\${file:${secret}}`))
    const source = watchFile()
    writeFileSync(`${secret}.new`, 'second-secret-of-the-root\n')
    renameSync(`${secret}.new`, secret)
    await until(() => changes === 1)
    expect(source.read()).toMatchObject({ config: { admin: { root_token: 'second-secret-of-the-root' } } })
    rmSync(secrets, { recursive: true })
    await until(() => changes === 2)
    expect(source.read()).toMatchObject({ kind: 'invalid' })
  })

  it('is not changed by its neighbours, nor by being written as it was', async () => {
    writeFileSync(file, configOf(1))
    watchFile()
    for (let n = 0; n < 20; n++) appendFileSync(path.join(folder, 'access.log'), 'a line\n')
    writeFileSync(file, configOf(1))
    await quiet()
    expect(changes).toBe(0)
  })

  it('that has a fault is reported once, not again and again', async () => {
    writeFileSync(file, configOf(1))
    const source = watchFile()
    writeFileSync(file, 'routes: [')
    await until(() => changes === 1)
    expect(source.read().kind).toBe('invalid')
    await quiet()
    expect(changes).toBe(1)
  })

  it('is not watched any more when that is over', async () => {
    writeFileSync(file, configOf(1))
    watchFile()
    unwatch?.()
    writeFileSync(file, configOf(2))
    await quiet()
    expect(changes).toBe(0)
  })
})
