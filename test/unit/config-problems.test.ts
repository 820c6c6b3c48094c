import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadConfig } from '../../src/config/load.ts'
import { formatProblem, type Problem } from '../../src/config/problem.ts'
import { createCertificate } from '../support/certificate.ts'

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'dripgate-config-'))
})
afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
})

function load(text: string) {
  const file = join(folder, 'gateway.yaml')
  writeFileSync(file, text)
  return loadConfig({ file, env: {} })
}

function findProblems(text: string): readonly Problem[] {
  const result = load(text)
  return result.kind === 'invalid' ? result.problems : []
}

/** `LINE:COLUMN message` of each. */
function listProblems(text: string): string[] {
  return findProblems(text).map(({ line, column, message }) => `${line}:${column} ${message}`)
}

const ROUTED = 'upstreams: {orders: {targets: ["http://127.0.0.1:9000"]}}\n'

describe('a problem points at its cause', () => {
  test.each([
    ['an unknown section', 'gatway: {}\n', '1:1 unknown setting "gatway", did you mean "gateway"?'],
    [
      'an unknown key, at the key',
      'gateway:\n  timeouts:\n    idel: 5s\n',
      '3:5 unknown setting "idel" in gateway.timeouts, did you mean "idle"?',
    ],
    [
      'an unknown key of a list item',
      `${ROUTED}routes:\n  - upstream: orders\n    stripPath: true\n`,
      '4:5 unknown setting "stripPath" in routes[0], did you mean "strip_path"?',
    ],
    [
      'an unknown key in a named mapping',
      'upstreams:\n  o:\n    targets: ["http://h"]\n    balnce: x\n',
      '4:5 unknown setting "balnce" in upstreams.o, did you mean "balance"?',
    ],
    [
      'a duration',
      'gateway:\n  timeouts: {idle: ten}\n',
      '2:20 gateway.timeouts.idle must be a duration such as 500ms, 10s or 5m, or a whole number of milliseconds',
    ],
    [
      'a size',
      'gateway:\n  max_header_bytes: 10KB\n',
      '2:21 gateway.max_header_bytes must be a size such as 64KiB or 10MiB, or a whole number of bytes',
    ],
    [
      'an address',
      'gateway:\n  listen: 8080\n',
      '2:11 gateway.listen must be an address such as 127.0.0.1:8080, [::1]:8080 or :8080',
    ],
    ['a number', 'gateway:\n  max_headers: many\n', '2:16 gateway.max_headers must be a number, not text'],
    ['a range', 'gateway:\n  max_headers: 0\n', '2:16 gateway.max_headers must be at least 1'],
    ['text', 'store:\n  path: 5\n', '2:9 store.path must be text: put it in quotes'],
    [
      'a list',
      'upstreams:\n  o:\n    targets: http://h\n',
      '3:14 upstreams.o.targets must be a list, not text',
    ],
    [
      'an empty list',
      'upstreams:\n  o:\n    targets: []\n',
      '3:14 upstreams.o.targets must have at least 1 entries',
    ],
    [
      'an empty section',
      'gateway:\nadmin: {}\n',
      '1:1 gateway is empty: give it a mapping of settings, or remove it',
    ],
    [
      'what is missing, at the nearest key',
      'upstreams:\n  o:\n    balance: round_robin\n',
      '2:3 upstreams.o.targets is missing',
    ],
    [
      'what is missing in a list item',
      `${ROUTED}routes:\n  - name: a\n`,
      '3:5 routes[0].upstream is missing',
    ],
    [
      'a word of a fixed set',
      `${ROUTED}routes:\n  - upstream: orders\n    on_store_error: alow\n`,
      '4:21 routes[0].on_store_error must be one of deny, allow, local, did you mean "allow"?',
    ],
    [
      'an entry of a list',
      `${ROUTED}routes:\n  - upstream: orders\n    ratelimit_headers: [ietf, legasy]\n`,
      '4:31 routes[0].ratelimit_headers[1] must be one of ietf, legacy, did you mean "legacy"?',
    ],
    [
      'a name, at the key',
      'upstreams:\n  "my orders": {targets: ["http://h"]}\n',
      '2:3 the name of upstreams."my orders" must be 1 to 64 letters, digits, "_", "." or "-"',
    ],
    [
      'a header value',
      `${ROUTED}routes:\n  - upstream: orders\n    headers: {request: {set: {x-a: 5}}}\n`,
      '4:36 routes[0].headers.request.set.x-a must be text: put it in quotes',
    ],
    [
      'an upstream that is not there',
      `${ROUTED}routes:\n  - upstream: ordrs\n`,
      '3:15 routes[0].upstream names an upstream that does not exist, did you mean "orders"?',
    ],
    [
      'an upstream like no other',
      `${ROUTED}routes:\n  - upstream: payments\n`,
      '3:15 routes[0].upstream names an upstream that does not exist (there are "orders")',
    ],
    [
      'an upstream where there is none',
      'routes:\n  - upstream: payments\n',
      '2:15 routes[0].upstream names an upstream that does not exist (none is defined)',
    ],
    [
      'keyspace beside keyspaces',
      `${ROUTED}routes:\n  - upstream: orders\n    keyspace: ks_a\n    keyspaces: [ks_b]\n`,
      '4:15 routes[0].keyspace must not stand beside keyspaces: give one of the two',
    ],
    [
      'a route that needs a token and reads none',
      `${ROUTED}routes:\n  - upstream: orders\n    keyspace: ks_a\n    token: {headers: []}\n`,
      '5:12 routes[0].token must name a place to read tokens from, as the route needs one',
    ],
    ['another type of document', '- 1\n', '1:1 the configuration must be a mapping of settings, not a list'],
    ['an empty file', '\n', '1:1 the configuration is empty; config/gateway.yaml is a commented example'],
    [
      'a file of comments',
      '# nothing\n',
      '1:1 the configuration is empty; config/gateway.yaml is a commented example',
    ],
  ])('%s', (_, text, problem) => {
    expect(listProblems(text)).toEqual([problem])
  })

  test.each([
    ['a key given twice', 'store: {path: a}\nstore: {path: b}\n', '2:1 this key is already set above'],
    [
      'a tag',
      'store: !!python/object {}\n',
      '1:8 this is not valid YAML: Unresolved tag: tag:yaml.org,2002:python/object',
    ],
    [
      'a second document',
      'store: {}\n---\nstore: {}\n',
      '2:1 a second document starts here; one file holds one configuration',
    ],
    ['an open quote', 'store:\n  path: "a\n', '2:11 this is not valid YAML: Missing closing "quote'],
    ['a lone alias', 'store: *s\n', '1:8 this alias has no anchor (&name) before it'],
    [
      'a key that is no text',
      '? [a]\n: 1\n',
      '1:3 this is not valid YAML: With stringKeys, all keys must be strings',
    ],
    [
      'a name of JavaScript',
      'upstreams: {__proto__: {targets: ["http://h"]}}\n',
      '1:13 __proto__ is not allowed as a name',
    ],
    ['__proto__ at the top', '__proto__: {gateway: {}}\n', '1:1 __proto__ is not allowed as a name'],
  ])('YAML: %s', (_, text, problem) => {
    expect(listProblems(text)).toContain(problem)
  })

  test.each([
    ['tags: ["a", "{nothing}"]', '"{nothing', 'must name in braces one of {path}'],
    ['tags: ["{path"]', '"{path', 'must close every "{" with a "}"'],
    ['key: "a}"', '"a}', 'must not hold a "}" without its "{"'],
    ['key: "a*"', '"a*', 'must not hold control characters or "*"'],
    ['vary_by: caller', 'caller', 'vary_by'],
    ['cost: 2', '2}', 'must be at most the cost of the route'],
  ])('the cache of a route: %s', (cache, culprit, message) => {
    const line = `routes: [{upstream: orders, cache: {${cache}}}]`
    const [problem, ...others] = listProblems(`${ROUTED}${line}`)
    expect(others).toEqual([])
    expect(problem).toMatch(new RegExp(`^2:${line.indexOf(culprit) + 1} `))
    expect(problem).toContain(message)
  })

  test('aliases that multiply are refused', () => {
    const levels = ['a', 'b', 'c', 'd', 'e', 'f'].map((name, index, names) =>
      index === 0
        ? 'a: &a [x, x]'
        : `${name}: &${name} [${Array(9)
            .fill(`*${names[index - 1]}`)
            .join(', ')}]`,
    )
    expect(listProblems(levels.join('\n'))).toEqual(['2:8 aliases copy too much here; write it out instead'])
  })

  test('nesting without end is a problem, not a crash', () => {
    expect(findProblems('['.repeat(100_000)).length).toBeGreaterThan(0)
    expect(findProblems('{a: '.repeat(100_000)).length).toBeGreaterThan(0)
  })

  test('a cycle of aliases is a problem, not a loop', () => {
    expect(findProblems('routes: &r [*r]\nupstreams: &u {a: *u}\n').length).toBeGreaterThan(0)
  })
})

describe('names and addresses that collide', () => {
  test.each([
    ['ksid', '3:12 keyspaces[1].ksid must be unique: keyspaces[0].ksid is the same', { ksid: 'ks_a' }],
    ['name', '3:24 keyspaces[1].name must be unique: keyspaces[0].name is the same', { name: 'a' }],
    [
      'prefix',
      '3:40 keyspaces[1].keys_prefix must be unique: keyspaces[0].keys_prefix is the same',
      { prefix: 'a_' },
    ],
  ])('two keyspaces with one %s', (_, problem, same) => {
    const { ksid, name, prefix } = { ksid: 'ks_b', name: 'b', prefix: 'b_', ...same }
    const text = `keyspaces:\n  - {ksid: ks_a, name: a, keys_prefix: a_}\n  - {ksid: ${ksid}, name: ${name}, keys_prefix: ${prefix}}\n`
    expect(listProblems(text)).toEqual([problem])
  })

  test('two routes with one name, also where one is made up', () => {
    const text = (names: [string, string]) =>
      `${ROUTED}routes:\n  - {${names[0]}upstream: orders, match: {path: /a}}\n  - {${names[1]}upstream: orders}\n`
    expect(listProblems(text(['name: a, ', 'name: a, ']))).toEqual([
      '4:12 routes[1].name must be unique: routes[0] has the same',
    ])
    expect(listProblems(text(['name: route-2, ', '']))).toEqual([
      '4:5 routes[1].name must be unique: routes[0] has the same',
    ])
    expect(listProblems(text(['', '']))).toEqual([])
  })

  function listShadowed(first: string, second: string): string[] {
    return listProblems(
      `${ROUTED}routes:\n  - {upstream: orders, match: ${first}}\n  - {upstream: orders, match: ${second}}\n`,
    )
  }

  test.each([
    ['{path: /a}', '{path: /a/}'],
    ['{}', '{path: /}'],
    ['{hosts: [a.example, B.example]}', '{hosts: [b.example]}'],
    ['{methods: [GET, POST]}', '{methods: [post]}'],
    ['{methods: [GET]}', '{methods: [HEAD]}'],
    ['{path: /a}', '{path: /%61}'],
    ['{headers: {A: "1", b: "2"}}', '{headers: {B: "2", a: "1"}}'],
  ])('after %s, %s can never match', (first, second) => {
    expect(listShadowed(first, second)).toEqual([
      '4:31 routes[1].match can never match: routes[0] comes first and takes the same requests',
    ])
  })

  test.each([
    ['{path: /a}', '{path: /a/b}'],
    ['{hosts: [a.example]}', '{hosts: [a.example, b.example]}'],
    ['{hosts: [a.example]}', '{}'],
    ['{methods: [GET]}', '{}'],
    ['{headers: {a: "1"}}', '{headers: {a: "2"}}'],
    ['{hosts: ["*.a.example"]}', '{hosts: [b.a.example]}'],
  ])('after %s, %s still can', (first, second) => {
    expect(listShadowed(first, second)).toEqual([])
  })

  test.each([
    ['gateway: {listen: "127.0.0.1:7131"}', '1:19 gateway.listen must not be the address of admin.listen'],
    ['gateway: {listen: ":7131"}', '1:19 gateway.listen must not be'],
    ['gateway: {listen: "[::]:7131"}', '1:19 gateway.listen must not be'],
    ['admin: {listen: "127.0.0.1:8080"}', '1:17 admin.listen must not be the address of gateway.listen'],
  ])('%s takes the other listener’s port', (text, problem) => {
    expect(listProblems(text)).toEqual([expect.stringContaining(problem)])
  })

  test.each([
    '{gateway: {listen: ":0"}, admin: {listen: ":0"}}',
    '{gateway: {listen: "127.0.0.1:80"}, admin: {listen: "127.0.0.2:80"}}',
    '{gateway: {listen: "0.0.0.0:80"}, admin: {listen: "[::1]:80"}}',
  ])('%s is fine', (text) => {
    expect(listProblems(text)).toEqual([])
  })
})

describe('files that the configuration names', () => {
  test('a certificate and its key are read before the process relies on them', () => {
    const write = (name: string, text: string) => {
      writeFileSync(join(folder, name), text)
      return join(folder, name)
    }
    const pair = createCertificate()
    const cert = write('tls.crt', pair.cert)
    const key = write('tls.key', pair.key)
    const other = write('other.key', createCertificate().key)
    const text = (keyFile: string) => `gateway:\n  tls:\n    cert: ${cert}\n    key: ${keyFile}\n`
    expect(listProblems(text(key))).toEqual([])
    expect(listProblems(text(other))).toEqual([
      '4:10 gateway.tls.key does not belong to the certificate of gateway.tls.cert',
    ])
    expect(listProblems(text(cert))).toEqual([
      '4:10 gateway.tls.key names a file that does not hold a PEM private key without passphrase',
    ])
    expect(listProblems(text(join(folder, 'none.key')))).toEqual([
      '4:10 gateway.tls.key names a file that cannot be read: there is no such file',
    ])
  })

  test('each of several certificates is checked, and one way to name them is chosen', () => {
    const pair = createCertificate()
    const [cert, key, other] = ['l.crt', 'l.key', 'l2.key'].map((name) => join(folder, name))
    writeFileSync(cert ?? '', pair.cert)
    writeFileSync(key ?? '', pair.key)
    writeFileSync(other ?? '', createCertificate().key)
    const list = `certificates: [{cert: ${cert}, key: ${key}}, {cert: ${cert}, key: ${other}}]`
    expect(listProblems(`gateway: {tls: {${list}}}`)).toEqual([
      expect.stringContaining(
        'gateway.tls.certificates[1].key does not belong to the certificate of gateway.tls.certificates[1].cert',
      ),
    ])
    const problem = expect.stringContaining('gateway.tls must have either cert and key, or certificates')
    for (const tls of [
      `{cert: ${cert}}`,
      '{}',
      `{cert: ${cert}, key: ${key}, certificates: [{cert: ${cert}, key: ${key}}]}`,
    ]) {
      expect(listProblems(`gateway: {tls: ${tls}}`)).toEqual([problem])
    }
    expect(listProblems(`gateway: {tls: {cert: ${cert}, key: ${key}, client_ca: ${key}}}`)).toEqual([
      expect.stringContaining('gateway.tls.client_ca names a file that does not hold a PEM certificate'),
    ])
  })

  test('so are the authorities of an upstream', () => {
    const text = 'upstreams:\n  o:\n    targets: ["https://h"]\n    tls: {ca: /does/not/exist}\n'
    expect(listProblems(text)).toEqual([
      '4:15 upstreams.o.tls.ca names a file that cannot be read: there is no such file',
    ])
  })

  test('a missing configuration says what to do', () => {
    const result = loadConfig({ file: join(folder, 'none.yaml'), env: {} })
    expect(result).toMatchObject({ kind: 'invalid', problems: [{ line: 1, column: 1, source: '' }] })
    const text = result.kind === 'invalid' ? result.problems.map(formatProblem).join() : ''
    expect(text).toContain(
      `${folder}/none.yaml:1:1: cannot read the configuration file: there is no such file.`,
    )
    expect(text).toContain('--config FILE')
  })

  test('a reader may be handed in', () => {
    const result = loadConfig({ file: 'x.yaml', env: {}, readFile: (path) => `store: {path: ./${path}}` })
    expect(result.kind === 'ok' && result.config.store.path).toBe('./x.yaml')
  })
})

describe('the text of a problem', () => {
  test('all problems come at once, in the order of the file', () => {
    const text = 'routes:\n  - {cost: -1}\ngateway: {engine: fast, wrkers: 2}\nstore: {path: ""}\n'
    expect(findProblems(text).map(({ line, column }) => [line, column])).toEqual([
      [2, 5],
      [2, 12],
      [3, 19],
      [3, 25],
      [4, 15],
    ])
  })

  test('it shows the line and a caret under the column', () => {
    const [problem] = findProblems('gateway:\r\n  listen: x\r\n')
    expect(problem && formatProblem({ ...problem, file: 'g.yaml' })).toBe(
      'g.yaml:2:11: gateway.listen must be an address such as 127.0.0.1:8080, [::1]:8080 or :8080\n' +
        '    listen: x\n' +
        '            ^',
    )
  })

  test('a byte order mark does not move the column', () => {
    expect(listProblems('\u{feff}gatway: {}\n')).toEqual([
      '1:1 unknown setting "gatway", did you mean "gateway"?',
    ])
  })

  test('tabs stay tabs before the caret', () => {
    expect(formatProblem({ file: 'f', line: 1, column: 3, message: 'm', source: '\tab' })).toBe(
      'f:1:3: m\n  \tab\n  \t ^',
    )
  })

  test('of a long line, the part around the column is shown', () => {
    const [, source, caret] = formatProblem({
      file: 'f',
      line: 1,
      column: 5001,
      message: 'm',
      source: `${'a'.repeat(5000)}X${'b'.repeat(5000)}`,
    }).split('\n')
    expect(source?.length).toBeLessThan(130)
    expect(source?.[caret?.indexOf('^') ?? 0]).toBe('X')
  })

  test('control characters cannot reach a terminal', () => {
    const text = 'store: {"\\e[31m": 1}\n"\u001b[2J\u0085": 1\n'
    for (const problem of findProblems(text)) {
      expect(formatProblem(problem)).not.toMatch(/[^\P{Cc}\n]/u)
    }
    expect(findProblems(text).length).toBe(2)
  })
})
