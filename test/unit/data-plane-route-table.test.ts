import { describe, expect, it } from 'vitest'
import { compileRoutes } from '../../src/data-plane/route-table.ts'
import { compileOne, compileTable, parseRoutes, route } from '../support/routes.ts'

describe('a path', () => {
  const table = compileTable(
    { name: 'orders', match: { path: '/orders' } },
    { name: 'open-orders', match: { path: '/orders/open' } },
    { name: 'cafe', match: { path: '/caf%C3%A9' } },
  )

  it.each([
    ['/orders', 'orders'],
    ['/orders/', 'orders'],
    ['/orders/1/lines', 'orders'],
    ['/orders/open', 'open-orders'],
    ['/orders/open/x', 'open-orders'],
    ['/orders/opened', 'orders'],
    ['/ordersx', 'not_found'],
    ['/order', 'not_found'],
    ['/Orders', 'not_found'],
    ['/', 'not_found'],
    ['*', 'not_found'],
    ['/caf%C3%A9/1', 'cafe'],
    ['/caf%c3%a9', 'cafe'],
  ])('%s leads to %s: segment boundaries, longest first, case counts', (path, expected) => {
    expect(route(table, path)).toBe(expected)
  })

  it('of / takes everything', () => {
    const root = compileTable({ name: 'root' })
    expect(route(root, '/')).toBe('root')
    expect(route(root, '/a/b//c%2Fd\\e')).toBe('root')
  })

  it('matches nothing where there are no routes', () => {
    expect(route(compileTable(), '/')).toBe('not_found')
  })
})

describe('a host', () => {
  const table = compileTable(
    { name: 'any' },
    { name: 'any-deep', match: { path: '/a/b/c' } },
    { name: 'wild', match: { hosts: ['*.example.com'] } },
    { name: 'wilder', match: { hosts: ['*.eu.example.com'] } },
    { name: 'exact', match: { hosts: ['api.example.com', '[::1]'], path: '/a' } },
  )

  it.each([
    ['api.example.com', '/a', 'exact'],
    ['api.example.com', '/b', 'wild'],
    ['[::1]', '/a', 'exact'],
    ['x.example.com', '/a', 'wild'],
    ['x.y.example.com', '/a', 'wild'],
    ['x.eu.example.com', '/a', 'wilder'],
    ['eu.example.com', '/a', 'wild'],
    ['example.com', '/a', 'any'],
    ['evil-example.com', '/a', 'any'],
    ['example.com.evil.org', '/a', 'any'],
    ['xapi.example.com', '/a', 'wild'],
    ['.example.com', '/a', 'any'],
    ['', '/a', 'any'],
    ['api.example.com', '/a/b/c', 'exact'],
  ])('%s with %s leads to %s: exact, then the longest wildcard, then any', (hostname, path, expected) => {
    expect(route(table, path, { hostname })).toBe(expected)
  })
})

describe('conditions', () => {
  const table = compileTable(
    { name: 'plain', match: { path: '/a' } },
    { name: 'post', match: { path: '/a', methods: ['POST'] } },
    { name: 'beta', match: { path: '/a', headers: { 'X-Stage': 'beta' } } },
    { name: 'beta-post', match: { path: '/a', methods: ['POST'], headers: { 'x-stage': 'beta' } } },
    { name: 'late', match: { path: '/a' } },
  )

  it.each([
    ['GET', [], 'plain'],
    ['POST', [], 'post'],
    ['GET', ['x-STAGE', 'beta'], 'beta'],
    ['GET', ['X-Stage', 'alpha', 'X-Stage', 'beta'], 'beta'],
    ['GET', ['X-Stage', 'Beta'], 'plain'],
    ['POST', ['X-Stage', 'beta'], 'beta-post'],
    ['post', [], 'plain'],
  ])(
    '%s with %j leads to %s: more conditions first, then the order of the file',
    (method, rawHeaders, expected) => {
      expect(route(table, '/a', { method, rawHeaders })).toBe(expected)
    },
  )

  it('leave a request that does not meet them to a shorter path', () => {
    const nested = compileTable(
      { name: 'outer', match: { path: '/a' } },
      { name: 'inner', match: { path: '/a/b', methods: ['PUT'] } },
    )
    expect(route(nested, '/a/b')).toBe('outer')
    expect(route(nested, '/a/b', { method: 'PUT' })).toBe('inner')
  })

  it('answer 405 with the methods of all routes that only the method kept away', () => {
    const methods = compileTable(
      { name: 'read', match: { path: '/a', methods: ['GET'] } },
      { name: 'write', match: { path: '/a/b', methods: ['PUT', 'DELETE'] } },
      { name: 'other-host', match: { path: '/a', hosts: ['other.example.com'], methods: ['PATCH'] } },
      { name: 'other-field', match: { path: '/a', headers: { 'x-a': '1' }, methods: ['REPORT'] } },
    )
    expect(route(methods, '/a/b', { method: 'POST' })).toBe('405 PUT, DELETE, GET, HEAD')
    expect(route(methods, '/a', { method: 'POST' })).toBe('405 GET, HEAD')
    expect(route(methods, '/a', { method: 'POST', rawHeaders: ['X-A', '1'] })).toBe('405 REPORT, GET, HEAD')
    expect(route(methods, '/a', { method: 'HEAD' })).toBe('read')
    expect(route(methods, '/a', { method: 'get' })).toBe('405 GET, HEAD')
    expect(route(methods, '/b', { method: 'POST' })).toBe('not_found')
    expect(route(methods, '/a', { method: 'POST', hostname: 'other.example.com' })).toBe(
      '405 PATCH, GET, HEAD',
    )
  })
})

describe('a compiled route', () => {
  it('has the timeouts of the route before those of the upstream before the defaults', () => {
    const config = parseRoutes([{ timeouts: { connect: '1s' } }], { timeouts: { connect: '2s', idle: '3s' } })
    expect(compileRoutes(config).routes[0]?.timeouts).toEqual({
      connectMs: 1000,
      responseMs: 15_000,
      idleMs: 3000,
    })
  })

  it('is open without keyspaces, and then strips nothing and emits nothing', () => {
    const open = compileOne({ token: { query: 'key', cookie: 'sid' }, ratelimit_headers: ['ietf', 'legacy'] })
    expect(open).toMatchObject({ isOpen: true, emitsIetf: false, emitsLegacy: false })
    expect(open.token).toMatchObject({ strippedQuery: '', strippedCookie: '' })
    expect(open.requestFields.drops.has('authorization')).toBe(false)
  })

  it('carries the rest of its settings', () => {
    const compiled = compileOne({
      keyspaces: ['ks_a', 'ks_b'],
      match: { path: '/a/' },
      strip_path: true,
      cost: 3,
      max_body: 'unlimited',
      on_store_error: 'local',
      host_header: 'upstream',
      ratelimit_headers: ['legacy'],
    })
    expect(compiled).toMatchObject({
      index: 0,
      name: 'one',
      upstream: 'main',
      isOpen: false,
      keyspaces: new Set(['ks_a', 'ks_b']),
      stripPrefix: '/a',
      cost: 3,
      bodyBytesMax: Number.POSITIVE_INFINITY,
      onStoreError: 'local',
      hostHeader: 'upstream',
      emitsIetf: false,
      emitsLegacy: true,
    })
    expect(compileOne().bodyBytesMax).toBe(1024 ** 2)
  })

  it('cannot be made for an upstream that is not there', () => {
    expect(() => compileRoutes({ ...parseRoutes([{}]), upstreams: {} })).toThrow(/upstream that is not there/)
  })
})
