import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { buildForwardTarget } from '../../src/data-plane/forward-target.ts'
import { matchRoute } from '../../src/data-plane/route-table.ts'
import { acceptHead, compileOne, compileTable, route } from '../support/routes.ts'

const SYMBOLS = ['a', 'b', '/', '%2F', '%2f', '%5C', '\\', '.', '%2e']
const TWO_ROUTES = compileTable(
  { name: 'open', match: { path: '/a' } },
  { name: 'protected', match: { path: '/a/b' }, keyspace: 'ks_b' },
)

/** All paths of up to `symbolsMax` symbols, the first being a slash. */
function* listPaths(symbolsMax: number): Generator<string> {
  let paths = ['/']
  for (let length = 1; length <= symbolsMax; length++) {
    yield* paths
    if (length < symbolsMax) paths = paths.flatMap((path) => SYMBOLS.map((symbol) => path + symbol))
  }
}

/** The segments of a path in every plausible reading, found by plain replacement of text. */
function listReadings(path: string): string[][] {
  const readings: string[][] = []
  for (let flags = 0; flags < 32; flags++) {
    let text = path
    if (flags & 1) text = text.replace(/%2f/gi, '/')
    if (flags & 2) text = text.replace(/%5c/gi, '/')
    if (flags & 4) text = text.replaceAll('\\', '/')
    let segments = text.split('/').slice(1)
    if (flags & 8) segments = segments.filter((segment) => segment !== '')
    if (flags & 16)
      segments = segments.map((segment) =>
        segment.replace(/%2e/gi, '.').replace(/%2f/gi, '/').replace(/%5c/gi, '\\'),
      )
    readings.push(segments)
  }
  return readings
}

function selectRoute(segments: readonly string[]): string {
  if (segments[0] !== 'a') return 'not_found'
  return segments[1] === 'b' ? 'protected' : 'open'
}

function isDotted(segments: readonly string[]): boolean {
  return segments.some((segment) => segment === '.' || segment === '..')
}

describe('an ambiguous path', () => {
  it('never reaches the open route where any plausible reading selects the protected one', () => {
    let opened = 0
    for (const path of listPaths(7)) {
      if (route(TWO_ROUTES, path) !== 'open') continue
      opened++
      const readings = listReadings(path)
      if (readings.some((segments) => isDotted(segments) || selectRoute(segments) === 'protected')) {
        expect.fail(`${path} reaches the open route`)
      }
    }
    expect(opened).toBeGreaterThan(10_000)
  })

  it('is refused exactly where two readings select two routes or a dot segment is in it', () => {
    for (const path of listPaths(5)) {
      const readings = listReadings(path)
      const selected = new Set(readings.map(selectRoute))
      selected.delete('not_found')
      const isAmbiguous = selected.size > 1 || readings.some(isDotted)
      const expected = isAmbiguous ? 'ambiguous' : ([...selected][0] ?? 'not_found')
      if (route(TWO_ROUTES, path) !== expected)
        expect(`${path} ${route(TWO_ROUTES, path)}`).toBe(`${path} ${expected}`)
    }
  })

  const catchAll = compileTable(
    { name: 'root' },
    { name: 'admin', match: { path: '/admin' }, keyspace: 'ks_a' },
    { name: 'users', match: { path: '/admin/users' }, keyspace: 'ks_b' },
  )

  it.each([
    '//admin',
    '/%61dmin',
    '/%2Fadmin',
    '/\\admin',
    '/%5cadmin',
    '/admin//users',
    '/admin%2fusers',
    '/admin\\users',
    '/admin/%75sers',
    '/%2561dmin',
    '/admin%252Fusers',
    '/admin/%252575sers',
  ])('%s is refused beside a catch-all route', (path) => {
    expect(route(catchAll, path)).toBe('ambiguous')
  })

  it.each([
    '/.',
    '/..',
    '/a/./b',
    '/a/../admin',
    '/a/%2e%2e/admin',
    '/a/%2E./admin',
    '/a/.%2e/admin',
    '/a/%252e%252e/admin',
    '/a/%25%32%65%2e/admin',
    '/a%2f..%2fadmin',
    '/a\\..\\admin',
    '/a%5c%2e%2e%5cadmin',
    '/a/..;/admin',
    '/a/..;x=y/admin',
    '/a/..%3bx/admin',
    '/a/%c0%ae%c0%ae/admin',
    '/a%c0%af..%c0%afadmin',
    '/admin/..',
    '/%2525252525252e%2e',
  ])('%s has a dot segment and is refused everywhere', (path) => {
    expect(route(catchAll, path)).toBe('ambiguous')
    expect(route(compileTable({ name: 'root' }), path)).toBe('ambiguous')
  })

  it.each([
    ['/a//b', 'root'],
    ['/a%2Fb%5Cc\\d', 'root'],
    ['/...', 'root'],
    ['/.well-known/x', 'root'],
    ['/a/.b/..c/d..', 'root'],
    ['/a;..', 'root'],
    ['/admin/x%2F%2e%2ey', 'admin'],
    ['/admin/100%25', 'admin'],
    ['/admin/%zz%', 'admin'],
    ['/admin/users//1', 'users'],
    ['/admin/caf%C3%A9', 'admin'],
  ])('%s is no such path and leads to %s', (path, expected) => {
    expect(route(catchAll, path)).toBe(expected)
  })

  it('is refused where a prefix is to be cut off and is spelt in another way', () => {
    const strips = compileTable({ name: 'strips', match: { path: '/orders' }, strip_path: true })
    for (const path of ['//orders/1', '/%6Frders/1', '/orders%2F1', '/orders\\1']) {
      expect(route(strips, path)).toBe('ambiguous')
    }
    for (const path of ['/orders', '/orders/', '/orders/1//2', '/orders/a%2Fb'])
      expect(route(strips, path)).toBe('strips')
  })

  it('is refused where what is left of it would look like the name of a host', () => {
    const strips = compileTable({ name: 'strips', match: { path: '/orders' }, strip_path: true })
    const moves = compileTable({ name: 'moves', match: { path: '/orders' }, rewrite: '/v2' })
    for (const path of ['/orders//evil.example', '/orders/%2fevil', '/orders/\\evil', '/orders/%5Cevil']) {
      expect(route(strips, path)).toBe('ambiguous')
      expect(route(moves, path)).toBe('moves')
    }
  })

  it('keeps its method in every reading', () => {
    const table = compileTable(
      { name: 'open', match: { path: '/a' } },
      { name: 'write', match: { path: '/a/b', methods: ['POST'] }, keyspace: 'ks_b' },
    )
    expect(route(table, '/a//b', { method: 'POST' })).toBe('ambiguous')
    expect(route(table, '/a//b', { method: 'GET' })).toBe('open')
  })

  it.each([
    ['plain', `/${'a'.repeat(100_000)}`],
    ['segments', '/a'.repeat(50_000)],
    ['slashes', `${'/'.repeat(100_000)}%2f%5c\\`],
    ['encoded slashes', `/${'%2f'.repeat(33_000)}%5c\\`],
    ['nested encoding', `/%${'25'.repeat(50_000)}`],
    ['encoded dots', `/${'%2e'.repeat(33_000)}`],
    ['overlong', `/${'%c0%ae'.repeat(16_000)}/`],
  ])('of 100 kB is worked off in linear time: %s', (_, path) => {
    const table = compileTable(
      { name: 'root' },
      { name: 'deep', match: { path: '/a/a/a/a/a/a/a/a' }, keyspace: 'ks_a' },
      { name: 'wild', match: { path: '/a/a', hosts: ['*.example.com'] } },
    )
    const times: number[] = []
    for (let round = 0; round < 5; round++) {
      const start = performance.now()
      matchRoute(table, { method: 'GET', path, hostname: 'www.example.com' }, [])
      times.push(performance.now() - start)
    }
    // The aim is 5 ms; quadratic time would take seconds.
    expect(Math.min(...times)).toBeLessThan(50)
  })
})

describe('the forwarded target', () => {
  const symbol = fc.constantFrom(
    ...SYMBOLS,
    '?',
    '=',
    '&',
    '%',
    '%zz',
    '//',
    'é'.normalize('NFD').charAt(0),
    '~',
    '"',
    '|',
  )
  const targets = fc.array(symbol, { maxLength: 20 }).map((parts) => `/${parts.join('')}`)

  it('is the received one, byte for byte, on a route that cuts nothing', () => {
    const plain = compileOne({ keyspace: 'ks_a' })
    fc.assert(
      fc.property(targets, (target) => {
        expect(buildForwardTarget(plain, acceptHead({ target }))).toBe(target)
      }),
    )
  })

  it('is the received one less the prefix, on a route that cuts it', () => {
    const table = compileTable({ name: 'strips', match: { path: '/a/b' }, strip_path: true })
    fc.assert(
      fc.property(targets, (rest) => {
        const target = `/a/b${rest}`
        const head = acceptHead({ target })
        const match = matchRoute(table, head, [])
        if (match.kind === 'route') expect(buildForwardTarget(match.route, head)).toBe(rest)
      }),
    )
  })

  it.each([
    ['/orders/1?x=1', '/1?x=1'],
    ['/orders', '/'],
    ['/orders/', '/'],
    ['/orders?x', '/?x'],
    ['/orders?', '/?'],
    ['/orders//1', '//1'],
  ])('of %s behind the prefix /orders is %s', (target, expected) => {
    const strips = compileOne({ match: { path: '/orders' }, strip_path: true })
    expect(buildForwardTarget(strips, acceptHead({ target }))).toBe(expected)
  })
})
