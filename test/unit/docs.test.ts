import { existsSync, globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { loadConfig } from '../../src/config/load.ts'

/*
 * What the documentation says that a machine can check: links lead somewhere, commands and scripts
 * exist, and pieces of configuration are valid.
 */

const ROOT = path.resolve(import.meta.dirname, '../..')
const PAGES = [...globSync('{*.md,docs/**/*.md,examples/**/*.md,.github/**/*.md}', { cwd: ROOT })].toSorted()
const SECTIONS = ['gateway', 'admin', 'store', 'upstreams', 'keyspaces', 'routes']

/** As docs/configuration.md lists them. */
const SETTINGS = listSettings()

const read = (file: string) => readFileSync(path.join(ROOT, file), 'utf8')

function listSettings(): string[] {
  const reference = readFileSync(path.join(ROOT, 'docs/configuration.md'), 'utf8')
  return reference.split(/^## /m).flatMap((section) => {
    const [title = ''] = section.split('\n')
    return [...section.matchAll(/^\| `([^`]+)` \|/gm)].map(([, name]) => `${title}.${name}`)
  })
}

/** Text without what stands in fences, where nothing is a link or a heading. */
function withoutFences(text: string): string {
  return text.replaceAll(/^```[\s\S]*?^```$/gm, '')
}

function listFences(text: string, language: string): string[] {
  return [...text.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].flatMap(([, found, body = '']) =>
    found === language ? [body] : [],
  )
}

/** The fragments that headings can be reached by, as code hosts make them. */
function listAnchors(text: string): Set<string> {
  return new Set(
    [...withoutFences(text).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\w\s-]/g, '')
        .trim()
        .replaceAll(/\s/g, '-'),
    ),
  )
}

it('finds the pages', () => {
  expect(PAGES).toContain('README.md')
  expect(PAGES).toContain('docs/configuration.md')
  expect(PAGES.length).toBeGreaterThan(8)
})

describe.each(PAGES)('%s', (page) => {
  const text = read(page)

  it('has links that lead somewhere', () => {
    for (const [link, target = ''] of withoutFences(text).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^(https?|mailto):/.test(target)) continue
      const [file = '', anchor] = target.split('#')
      const full = file === '' ? path.join(ROOT, page) : path.resolve(ROOT, path.dirname(page), file)
      expect(existsSync(full), `${link} of ${page}`).toBe(true)
      if (anchor === undefined) continue
      expect([...listAnchors(readFileSync(full, 'utf8'))], `${link} of ${page}`).toContain(anchor)
    }
  })

  it('names commands, scripts and files that exist', () => {
    const { scripts } = JSON.parse(read('package.json'))
    const own = ['ci', 'install', 'test', 'start']
    for (const [, name = ''] of text.matchAll(/\bnpm (?:run )?([a-z]+)\b/g)) {
      expect([...own, ...Object.keys(scripts)], `npm ${name}`).toContain(name)
    }
    const usage = read('src/main.ts').split('const USAGE')[1]?.split('`\n')[0] ?? ''
    for (const [, name = ''] of text.matchAll(
      /\b(?:bin\/dripgate\.mjs|dist\/main\.js|`dripgate) ([a-z-]+)/g,
    )) {
      expect(usage, `dripgate ${name}`).toMatch(new RegExp(`\\b${name}\\b`))
    }
    for (const [, file = ''] of text.matchAll(
      /\b((?:bin|config|docs|examples|scripts|src|test)\/[\w./-]*\w\.\w+)\b/g,
    )) {
      expect(existsSync(path.join(ROOT, file)), `${file}, named in ${page}`).toBe(true)
    }
  })

  it('names settings that exist', () => {
    for (const [, setting = ''] of text.matchAll(
      /`((?:gateway|admin|store|upstreams\.NAME)\.(?!ts`|yaml`|json`)[a-z_.]+)`/g,
    )) {
      expect(SETTINGS, `${setting}, named in ${page}`).toContain(setting)
    }
  })

  it('shows configuration that is valid', () => {
    for (const snippet of listFences(text, 'yaml')) {
      const parsed = parse(snippet) ?? {}
      if (!Object.keys(parsed).some((key) => SECTIONS.includes(key))) continue
      const loaded = loadConfig({ file: 'page.yaml', env: anyEnvironment(), readFile: standIn(snippet) })
      expect(loaded.kind === 'invalid' ? loaded.problems : [], snippet).toEqual([])
    }
  })
})

it('lists every page of docs in its index', () => {
  const index = read('docs/README.md')
  const pages = PAGES.filter((page) => /^docs\/(?!README)/.test(page)).map((page) => path.basename(page))
  expect(
    pages.filter((page) => !index.includes(`(${page})`)),
    'add these to docs/README.md',
  ).toEqual([])
})

/** Whatever variable a page takes a value from. */
function anyEnvironment(): Record<string, string> {
  return new Proxy<Record<string, string>>({}, { get: () => 'a-value-of-sixteen', has: () => true })
}

/** The snippet, with the parts that it refers to and does not show; other files are certificates, keys and secrets. */
function standIn(snippet: string): (file: string) => string {
  return (file) => {
    if (/\.key$/.test(file)) return read('test/support/tls/server-key.pem')
    if (/\.(crt|pem)$/.test(file)) return read('test/support/tls/server.pem')
    return file === 'page.yaml' ? complete(snippet) : 'a-secret-of-sixteen'
  }
}

function complete(snippet: string): string {
  const shown = parse(snippet) as Record<string, unknown>
  const routes = (shown['routes'] ?? []) as { upstream?: string }[]
  const named = routes.map(({ upstream }) => [upstream ?? 'any', { targets: ['http://127.0.0.1:9000'] }])
  const upstreams = Object.entries((shown['upstreams'] ?? {}) as Record<string, object>).map(
    ([name, upstream]) => [name, { targets: ['http://127.0.0.1:9000'], ...upstream }],
  )
  return JSON.stringify({
    ...shown,
    upstreams: Object.fromEntries([['any', { targets: ['http://127.0.0.1:9000'] }], ...named, ...upstreams]),
    ...(routes.length > 0 && { routes: routes.map((route) => ({ upstream: 'any', ...route })) }),
  })
}
