import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import path from 'node:path'

export interface Binary {
  readonly file: string
  readonly env: NodeJS.ProcessEnv
}

export interface Wanted {
  /** Of programs that do, on PATH or with a path; the first that can say its version is taken. */
  readonly names: readonly string[]
  /** Of Debian, with those that they cannot do without. */
  readonly packages: readonly string[]
  /** Of the folder in `node_modules/.cache`. */
  readonly cacheName: string
  /** Where the program is in the packages. */
  readonly file: string
}

const LIBRARIES = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }
const CACHE = path.resolve(import.meta.dirname, '../../node_modules/.cache')

const found = new Map<string, Binary | undefined>()

/**
 * A program for tests: from PATH, else from Debian's packages, unpacked into `node_modules/.cache`,
 * which needs no root rights.
 */
export function findBinary(wanted: Wanted): Binary | undefined {
  if (!found.has(wanted.cacheName)) found.set(wanted.cacheName, search(wanted))
  return found.get(wanted.cacheName)
}

function search(wanted: Wanted): Binary | undefined {
  for (const file of wanted.names) {
    if (answers({ file, env: process.env })) return { file, env: process.env }
  }
  return unpack(wanted)
}

function answers({ file, env }: Binary): boolean {
  return spawnSync(file, ['--version'], { env }).status === 0
}

function unpack({ packages, cacheName, file }: Wanted): Binary | undefined {
  const root = path.join(CACHE, cacheName, 'root')
  const library = LIBRARIES[process.arch as keyof typeof LIBRARIES] ?? ''
  const env = { ...process.env, LD_LIBRARY_PATH: path.join(root, 'usr/lib', library) }
  const binary = { file: path.join(root, file), env }
  if (!existsSync(binary.file)) {
    const debs = path.join(CACHE, cacheName, 'debs')
    try {
      mkdirSync(debs, { recursive: true })
      mkdirSync(root, { recursive: true })
    } catch {
      return undefined
    }
    const get = () =>
      spawnSync('apt-get', ['download', ...packages], { cwd: debs, timeout: 60_000 }).status === 0
    const refresh = () => spawnSync('apt-get', ['update', '-qq'], { timeout: 120_000 }).status === 0
    if (!get() && !(process.getuid?.() === 0 && refresh() && get())) return undefined
    for (const deb of readdirSync(debs)) execFileSync('dpkg-deb', ['-x', path.join(debs, deb), root])
  }
  return answers(binary) ? binary : undefined
}
