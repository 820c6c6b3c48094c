import { describe, expect, test } from 'vitest'
import { loadConfig } from '../../src/config/load.ts'

const START = ['upstreams: { a: { targets: ["http://127.0.0.1:9000"] } }', 'routes:', '  - upstream: a']

function load(...lines: string[]) {
  const text = [...START, ...lines.map((line) => `    ${line}`)].join('\n')
  const result = loadConfig({ file: 'g.yaml', env: {}, readFile: () => text })
  if (result.kind === 'ok') return { route: result.config.routes[0], problems: [] }
  return {
    route: undefined,
    problems: result.problems.map(({ line, column, message }) => `${line}:${column}: ${message}`),
  }
}

describe('cors', () => {
  test('has defaults for all but the origins', () => {
    expect(load('cors: { origins: ["*"] }').route?.cors).toEqual({
      origins: ['*'],
      headers: ['*'],
      expose: ['ratelimit', 'ratelimit-policy', 'retry-after', 'x-request-id'],
      credentials: false,
      max_age: 600_000,
    })
    expect(load('cors: {}').problems).toEqual(['4:5: routes[0].cors.origins is missing'])
    expect(load('cors: { origins: [] }').problems).toHaveLength(1)
  })

  test.each([
    ['HTTPS://App.Example.com', 'https://app.example.com'],
    ['https://a.example:443', 'https://a.example'],
    ['http://a.example:80', 'http://a.example'],
    ['http://a.example:443', 'http://a.example:443'],
    ['https://*.Example.com:8443', 'https://*.example.com:8443'],
    ['http://localhost:3000', 'http://localhost:3000'],
    ['http://127.0.0.1:3000', 'http://127.0.0.1:3000'],
    ['http://[::1]:3000', 'http://[::1]:3000'],
    ['capacitor://localhost', 'capacitor://localhost'],
    ['Null', 'null'],
  ])('the origin %s is what browsers send as %s', (written, sent) => {
    expect(load(`cors: { origins: ["${written}"] }`).route?.cors?.origins).toEqual([sent])
  })

  test.each([
    'app.example.com',
    'https://app.example.com/',
    'https://app.example.com/path',
    'https://user@app.example.com',
    'https://*',
    'https://*example.com',
    'https://a.*.example.com',
    'https://*.*.example.com',
    'https://*.127.0.0.1',
    'https://a.example:99999',
    'https://a..example',
    'https:// a.example',
    '',
  ])('%j is no origin', (origin) => {
    const { problems } = load('cors:', `  origins: ["${origin}"]`)
    expect(problems).toEqual([expect.stringContaining('5:17: routes[0].cors.origins[0] must be an origin')])
  })

  test.each(['*', 'null'])('no page may act for a user by the origin %j', (origin) => {
    const { problems } = load(`cors: { origins: [https://a.example, "${origin}"], credentials: true }`)
    expect(problems).toEqual([
      expect.stringContaining(`routes[0].cors.credentials must not be true while origins names "${origin}"`),
    ])
  })

  test('what it writes cannot be written by hand too', () => {
    const { problems } = load(
      'cors: { origins: ["*"] }',
      'headers: { response: { set: { Access-Control-Allow-Origin: "*" } } }',
    )
    expect(problems).toEqual([expect.stringContaining('must not be written by hand where cors writes it')])
  })
})

describe('addresses', () => {
  test('are ranges, and an empty list that lets nobody in is refused', () => {
    expect(load('allow_ips: [10.0.0.0/8, "::1"]', 'deny_ips: [10.1.1.1]').route).toMatchObject({
      allow_ips: ['10.0.0.0/8', '::1/128'],
      deny_ips: ['10.1.1.1/32'],
    })
    expect(load('allow_ips: []').problems).toEqual(['4:16: routes[0].allow_ips must have at least 1 entries'])
    expect(load('deny_ips: [10.0.0.0/33]').problems).toEqual([
      expect.stringContaining('4:16: routes[0].deny_ips[0] must be an address range'),
    ])
  })
})

describe('rewriting', () => {
  test('takes a path that can be read in one way only', () => {
    expect(load('rewrite: /v2/').route?.rewrite).toBe('/v2')
    for (const path of ['v2', '/v2?x', '/a//b', '/a/../b', '/a%2fb', '/{rest}', '"/a b"', '"/a\\r\\nb"']) {
      expect(load(`rewrite: ${path}`).problems, path).toHaveLength(1)
    }
  })

  test('does not stand beside strip_path', () => {
    expect(load('rewrite: /v2', 'strip_path: true').problems).toEqual([
      '5:17: routes[0].strip_path must not stand beside rewrite, which replaces the matched path',
    ])
  })

  test('adds fields, but none of the gateway’s own', () => {
    expect(load('headers: { request: { add: { X-A: b } } }').route?.headers.request.add).toEqual({
      'x-a': 'b',
    })
    for (const field of ['Host: a', 'Content-Length: "1"', 'X-Dripgate-Key-Id: k', 'X-A: "a\\r\\nb"']) {
      expect(load(`headers: { request: { add: { ${field} } } }`).problems, field).toHaveLength(1)
    }
  })
})

describe('matching by fields', () => {
  test('takes an exact value, or whether the field is there', () => {
    const { route } = load('match: { headers: { X-A: "1", X-B: { present: true } } }')
    expect(route?.match.headers).toEqual({ 'x-a': '1', 'x-b': { present: true } })
  })

  test.each(['true', '2', '{ present: "yes" }', '{ presnt: true }', '[a]'])(
    'refuses %s in words',
    (value) => {
      const { problems } = load(`match: { headers: { x-a: ${value} } }`)
      expect(problems).toEqual([
        expect.stringContaining(
          'must be the exact value in quotes, or { present: true } or { present: false }',
        ),
      ])
    },
  )
})
