/**
 * Random requests for the admin listener, made from its own OpenAPI document: mostly bodies that fit
 * the schema, some with one thing wrong, some that are no JSON at all. The same seed makes the same ones.
 */

type Json = null | boolean | number | string | Json[] | { [name: string]: Json }

export interface Schema {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly anyOf?: readonly Schema[]
  readonly enum?: readonly Json[]
  readonly const?: Json
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: Schema | boolean
  readonly items?: Schema
  readonly minimum?: number
  readonly maximum?: number
}

export interface Operation {
  readonly path: string
  /** As `noun.verb` for procedures. */
  readonly name: string
  readonly params: Schema | undefined
  readonly statuses: ReadonlySet<number>
}

export interface OpenApi {
  readonly paths: Readonly<
    Record<
      string,
      {
        readonly post: {
          readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> }
          readonly responses: Readonly<Record<string, unknown>>
        }
      }
    >
  >
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> }
}

export function listOperations({ paths }: OpenApi): Operation[] {
  return Object.entries(paths).map(([path, { post }]) => ({
    path,
    name: path.replace(/^\/v1\//, ''),
    params: post.requestBody?.content['application/json']?.schema,
    statuses: new Set(Object.keys(post.responses).map(Number)),
  }))
}

export interface Draw {
  /** 0 up to `below`, whole. */
  int(below: number): number
  chance(probability: number): boolean
  pick<T>(list: readonly T[]): T
}

/** Mulberry32: small, and the same everywhere. */
export function createDraw(seed: number): Draw {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return {
    int: (below) => Math.floor(next() * below),
    chance: (probability) => next() < probability,
    pick(list) {
      const picked = list[Math.floor(next() * list.length)]
      if (picked === undefined) throw new Error('nothing to pick from')
      return picked
    },
  }
}

const NASTY: readonly Json[] = [
  null,
  true,
  -1,
  0.5,
  2 ** 31,
  2 ** 53,
  1e300,
  '',
  '0',
  ' ',
  '*',
  '__proto__',
  'constructor',
  '\u0000',
  '\ud800',
  '\u202e',
  "'; drop table keys; --",
  '../../etc/passwd',
  '${jndi:ldap://127.0.0.1/a}',
  'x'.repeat(5000),
  '0001-01-01T00:00:00Z',
  '9999-12-31T23:59:59.999999999+14:00',
  '2026-02-30T00:00:00Z',
  [],
  {},
  [[[[[[]]]]]],
  { __proto__x: 1, constructor: { prototype: { admin: true } } },
]

/** Ids and tokens to be used where a field of that name is asked for. */
export type Pools = Readonly<Record<string, readonly string[]>>

export function createBody(draw: Draw, schema: Schema, pools: Pools): Json {
  const body = createValue(draw, schema, pools, '')
  if (!draw.chance(0.35) || typeof body !== 'object' || body === null || Array.isArray(body)) return body
  const names = Object.keys(body)
  switch (draw.int(3)) {
    case 0:
      return { ...body, [draw.pick(['admin', 'kid', 'root', '__proto__', 'list'])]: draw.pick(NASTY) }
    case 1:
      return names.length === 0 ? body : { ...body, [draw.pick(names)]: draw.pick(NASTY) }
    default: {
      if (names.length === 0) return body
      const { [draw.pick(names)]: _gone, ...rest } = body
      return rest
    }
  }
}

function createValue(draw: Draw, schema: Schema, pools: Pools, name: string): Json {
  if (schema.const !== undefined) return schema.const
  if (schema.enum !== undefined) return draw.pick(schema.enum)
  if (schema.anyOf !== undefined) return createValue(draw, draw.pick(schema.anyOf), pools, name)
  const type = typeof schema.type === 'string' ? schema.type : draw.pick(schema.type ?? ['null'])
  switch (type) {
    case 'object':
      return createObject(draw, schema, pools)
    case 'array':
      return Array.from({ length: draw.int(4) }, () => createValue(draw, schema.items ?? {}, pools, name))
    case 'integer':
    case 'number':
      return createNumber(draw, schema)
    case 'boolean':
      return draw.chance(0.5)
    case 'string':
      return createText(draw, pools, name)
    default:
      return null
  }
}

function createObject(draw: Draw, schema: Schema, pools: Pools): Json {
  const { properties = {}, required = [], additionalProperties } = schema
  const chosen = Object.entries(properties).filter(([name]) => required.includes(name) || draw.chance(0.5))
  const entries = chosen.map(([name, value]) => [name, createValue(draw, value, pools, name)] as const)
  const extra =
    typeof additionalProperties === 'object' && Object.keys(additionalProperties).length > 0
      ? Array.from(
          { length: draw.int(3) },
          () =>
            [
              draw.pick([...(pools['ksid'] ?? []), '*']),
              createValue(draw, additionalProperties, pools, ''),
            ] as const,
        )
      : []
  return Object.fromEntries([...entries, ...extra])
}

function createNumber(draw: Draw, { minimum = 0, maximum = 1000 }: Schema): number {
  return draw.pick([
    minimum,
    minimum + 1,
    minimum + draw.int(100),
    Math.min(maximum, minimum + draw.int(1e6)),
    maximum,
  ])
}

function createText(draw: Draw, pools: Pools, name: string): string {
  const pool = pools[name]
  if (pool !== undefined && pool.length > 0 && draw.chance(0.85)) return draw.pick(pool)
  if (name === 'expires_at') return new Date(1.7e12 + draw.int(2e9) * 1000).toISOString()
  return `${name}-${draw.int(1e9).toString(36)}`
}

/** What is sent for a body: mostly its JSON text, sometimes something that is none. */
export function createPayload(draw: Draw, body: Json): Buffer {
  const text = Buffer.from(JSON.stringify(body))
  if (!draw.chance(0.1)) return text
  switch (draw.int(7)) {
    case 0:
      return text.subarray(0, draw.int(text.length + 1))
    case 1:
      return Buffer.concat([text, Buffer.from('}')])
    case 2:
      return Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), text])
    case 3:
      return Buffer.concat([text.subarray(0, 1), Buffer.from([0xff, 0xfe, 0x00]), text.subarray(1)])
    case 4:
      return Buffer.from(draw.pick(['null', '[]', '1e400', '"x"', '{"a":1,"a":2}', 'NaN', '{"ksid":1e400}']))
    case 5:
      return Buffer.from('['.repeat(20_000))
    default:
      return Buffer.alloc(draw.int(64), 0x41 + draw.int(60))
  }
}
