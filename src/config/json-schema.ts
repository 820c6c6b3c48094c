import { z } from 'zod'
import type { JSONSchema } from 'zod/v4/core'
import { configSchema } from './schema.ts'

type Schema = JSONSchema.JSONSchema

const SUBSTITUTION: Schema = {
  type: 'string',
  pattern: '\\$\\{.+\\}',
  description: 'Replaced before the value is checked: ${NAME}, ${NAME:-default} or ${file:PATH}.',
}
const REFERENCE: Schema = { $ref: '#/$defs/substitution' }

/**
 * JSON Schema (draft 2020-12) of the file as people write it, for editors. It accepts `${NAME}`
 * wherever a number, a switch or a word of a fixed form belongs, as the loader does: the loader
 * checks values after substitution, an editor sees them before.
 */
export function toJsonSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(configSchema, { io: 'input', target: 'draft-2020-12' })
  return { ...widenSchema(schema), $defs: { substitution: SUBSTITUTION } }
}

function widenSchema(schema: Schema): Schema {
  if (schema.anyOf !== undefined) return { ...schema, anyOf: [...schema.anyOf, REFERENCE] }
  if (schema.type === 'array') return { ...schema, items: widenItems(schema.items) }
  if (schema.type === 'object') return widenObject(schema)
  const { description, default: preset, ...rest } = schema
  if (!isConstrained(rest)) return schema
  return {
    ...(description === undefined ? {} : { description }),
    ...(preset === undefined ? {} : { default: preset }),
    anyOf: [rest, REFERENCE],
  }
}

function widenObject(schema: Schema): Schema {
  const properties = Object.entries(schema.properties ?? {}).map(([name, value]) => [name, widen(value)])
  return {
    ...schema,
    ...(schema.properties === undefined ? {} : { properties: Object.fromEntries(properties) }),
    ...(schema.additionalProperties === undefined
      ? {}
      : { additionalProperties: widen(schema.additionalProperties) }),
  }
}

function widenItems(items: Schema['items']): NonNullable<Schema['items']> {
  if (Array.isArray(items)) return items.map(widen)
  return items === undefined ? true : widen(items)
}

function widen(schema: Schema | boolean): Schema | boolean {
  return typeof schema === 'boolean' ? schema : widenSchema(schema)
}

function isConstrained(schema: Schema): boolean {
  if (schema.type === 'string') return schema.pattern !== undefined || schema.enum !== undefined
  return schema.type === 'integer' || schema.type === 'number' || schema.type === 'boolean'
}
