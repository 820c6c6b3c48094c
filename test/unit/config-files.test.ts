import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { toJsonSchema } from '../../src/config/json-schema.ts'
import { loadConfig } from '../../src/config/load.ts'
import { formatProblem } from '../../src/config/problem.ts'

const REFERENCE = readShipped('gateway.yaml')

function readShipped(name: string): string {
  return readFileSync(new URL(`../../config/${name}`, import.meta.url), 'utf8')
}

function loadText(text: string, env: Record<string, string> = {}) {
  return loadConfig({ file: 'g.yaml', env, readFile: () => text })
}

function explain(result: ReturnType<typeof loadText>): string {
  return result.kind === 'ok' ? '' : result.problems.map(formatProblem).join('\n')
}

/** Every name of a setting below this schema. */
function listSettings(schema: unknown): string[] {
  if (typeof schema !== 'object' || schema === null) return []
  const { properties, items, additionalProperties } = schema as Record<string, unknown>
  const named = Object.entries(Object(properties)).flatMap(([name, value]) => [name, ...listSettings(value)])
  return [...named, ...listSettings(items), ...listSettings(additionalProperties)]
}

/** Descriptions are the manual: lists the settings without one. */
function listUndescribed(schema: unknown, path = ''): string[] {
  if (typeof schema !== 'object' || schema === null) return []
  const { properties, items, additionalProperties } = schema as Record<string, unknown>
  const own = Object.entries(Object(properties)).flatMap(([name, value]) => [
    ...(typeof Object(value).description === 'string' ? [] : [`${path}.${name}`]),
    ...listUndescribed(value, `${path}.${name}`),
  ])
  return [
    ...own,
    ...listUndescribed(items, `${path}[]`),
    ...listUndescribed(additionalProperties, `${path}.*`),
  ]
}

describe('the shipped files', () => {
  test('the reference loads as it is, with nothing in the environment', () => {
    const result = loadText(REFERENCE)
    expect(explain(result)).toBe('')
    expect(result).toMatchObject({
      kind: 'ok',
      config: { routes: [{ name: 'orders', keyspaces: ['ks_orders'] }] },
    })
  })

  test('the values that the reference shows are the defaults', () => {
    const shown = loadText(REFERENCE)
    const bare = loadText(`
      upstreams: { orders: { targets: ["http://127.0.0.1:9000"] } }
      keyspaces:
        - ksid: ks_orders
          name: orders (production)
          keys_prefix: ord_
          ratelimit: { limit: 100, refill_rate: 10, refill_interval: 1s }
      routes: [{ name: orders, match: { path: /orders }, keyspace: ks_orders, upstream: orders }]`)
    expect(shown).toEqual(bare)
  })

  test('the reference names every setting, and its first line names the schema', () => {
    const missing = listSettings(toJsonSchema()).filter((name) => !new RegExp(`\\b${name}:`).test(REFERENCE))
    expect(missing).toEqual([])
    for (const name of ['gateway.yaml', 'demo.yaml']) {
      expect(readShipped(name).split('\n')[0]).toBe('# yaml-language-server: $schema=./gateway.schema.json')
    }
  })

  test('the demo listens on loopback only and takes its upstream from the environment', () => {
    const env = { DRIPGATE_DEMO_UPSTREAM: 'http://127.0.0.1:41234' }
    const result = loadText(readShipped('demo.yaml'), env)
    expect(explain(result)).toBe('')
    expect(result).toMatchObject({
      kind: 'ok',
      config: {
        gateway: { listen: { host: '127.0.0.1', port: 8080 } },
        admin: { listen: { host: '127.0.0.1', port: 7131 } },
        store: { path: './data/demo' },
        upstreams: { demo: { targets: ['http://127.0.0.1:41234'] } },
        keyspaces: [
          {
            ksid: 'ks_demo',
            keys_prefix: 'demo_',
            ratelimit: { limit: 5, refill_rate: 1, refill_interval: 2000 },
          },
        ],
        routes: [
          { match: { path: '/open' }, keyspaces: [] },
          { match: { path: '/' }, keyspaces: ['ks_demo'] },
        ],
      },
    })
  })

  test('the smallest useful file of the contract loads without a root token', () => {
    const text = `
gateway: { listen: 127.0.0.1:8080 }
admin:   { listen: 127.0.0.1:7131, root_token: "\${DRIPGATE_ROOT_TOKEN:-}" }
store:   { path: ./data }
upstreams:
  orders: { targets: ["http://127.0.0.1:9000"] }
keyspaces:
  - ksid: ks_orders
    name: orders (production)
    keys_prefix: ord_
    ratelimit: { limit: 100, refill_rate: 10, refill_interval: 1s }
routes:
  - name: orders
    match: { path: /orders }
    keyspace: ks_orders
    upstream: orders
`
    expect(explain(loadText(text))).toBe('')
    const result = loadText(text, { DRIPGATE_ROOT_TOKEN: '0123456789abcdef' })
    expect(result).toMatchObject({ kind: 'ok', config: { admin: { root_token: '0123456789abcdef' } } })
  })
})

describe('the JSON Schema', () => {
  test('the committed one is current (scripts/write-schema.mjs writes it)', () => {
    expect(readShipped('gateway.schema.json')).toBe(`${JSON.stringify(toJsonSchema(), null, 2)}\n`)
  })

  test('every setting has a description, optional ones their default', () => {
    expect(listUndescribed(toJsonSchema())).toEqual([])
    expect(toJsonSchema()).toMatchObject({
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      additionalProperties: false,
      properties: {
        gateway: {
          properties: {
            listen: { default: '0.0.0.0:8080' },
            workers: { default: 'auto' },
            trusted_proxies: { default: [] },
            timeouts: { properties: { headers: { default: '10s' } } },
          },
        },
        routes: { items: { properties: { max_body: { default: '1MiB' } }, required: ['upstream'] } },
      },
    })
  })

  test('an editor that goes by it accepts the shipped files, before substitution too', () => {
    const editor = z.fromJSONSchema(toJsonSchema())
    for (const name of ['gateway.yaml', 'demo.yaml']) {
      expect(editor.safeParse(parse(readShipped(name))).error?.issues).toBeUndefined()
    }
    const accepts = (gateway: Record<string, unknown>) => editor.safeParse({ gateway }).success
    expect(accepts({ workers: '${WORKERS}', shutdown_timeout: '${T:-5s}', share_port: '${S}' })).toBe(true)
    expect(accepts({ workers: 'many' })).toBe(false)
    expect(accepts({ shutdown_timeout: 'ten' })).toBe(false)
    expect(accepts({ wrkers: 1 })).toBe(false)
  })
})

describe('whatever is in the file', () => {
  test('loading never throws, and every problem has a place in the file', () => {
    const snippets = [
      '{',
      '}',
      '[',
      ']',
      ':',
      ': ',
      '- ',
      '&a ',
      '*a',
      '"',
      "'",
      '\t',
      '\n',
      '#',
      '!!',
      '|\n',
      '${',
      '${A}',
      '$$',
      '\u0000',
      '0',
      '~',
      '<<: ',
    ]
    const edit = fc.record({
      at: fc.nat(REFERENCE.length),
      remove: fc.oneof(fc.nat(3), fc.nat(60)),
      insert: fc.oneof(fc.constantFrom(...snippets), fc.string({ maxLength: 8 }), fc.constant('')),
    })
    let invalid = 0
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
        const text = edits.reduce(
          (now, { at, remove, insert }) => now.slice(0, at) + insert + now.slice(at + remove),
          REFERENCE,
        )
        const result = loadText(text, { A: 'x: [1' })
        if (result.kind === 'ok') return
        invalid += 1
        expect(result.problems.length).toBeGreaterThan(0)
        const lines = text.split('\n')
        for (const { line, column, message } of result.problems) {
          expect(line).toBeGreaterThanOrEqual(1)
          expect(column).toBeGreaterThanOrEqual(1)
          expect(line).toBeLessThanOrEqual(lines.length)
          expect(column).toBeLessThanOrEqual((lines[line - 1]?.length ?? 0) + 1)
          expect(message).not.toBe('')
        }
      }),
      { seed: 42, numRuns: 300 },
    )
    expect(invalid).toBeGreaterThan(100)
  })
})
