import { z } from 'zod'
import type { JSONSchema } from 'zod/v4/core'
import { configSchema } from '../../src/config/schema.ts'

/* docs/configuration.md: every setting, from the schema that the loader checks by. */

type Schema = JSONSchema.JSONSchema

const INTRODUCTION = `# Configuration reference

Written by \`npm run generate\` from the schema that the gateway checks by; [config/gateway.yaml](../config/gateway.yaml) shows the same settings in
a file, and [config/gateway.schema.json](../config/gateway.schema.json) lets editors complete them.

* **File**: \`--config FILE\`, else \`DRIPGATE_CONFIG\`, else \`config/gateway.yaml\`. YAML 1.2. \`dripgate check\` names every problem with line and column; unknown settings are problems.
* **Duration**: \`500ms\`, \`2s\`, \`1m\`, \`1h\`, \`1d\`, or milliseconds. **Size**: \`64KiB\`, \`10MiB\`, \`1GiB\`, or bytes.
* **In values**: \`\${NAME}\` and \`\${NAME:-default}\` come from the environment, \`\${file:/run/secrets/x}\` from a file; \`$$\` is one \`$\`. Relative paths start at the working directory.
* **Reload**: SIGHUP, a changed file with \`gateway.watch\`, or \`config.reload\` of the management RPC. A bad file is refused whole and the old one goes on.
`

export function toConfigurationReference(): string {
  const schema = z.toJSONSchema(configSchema, { io: 'input', target: 'draft-2020-12' })
  const sections = Object.entries(schema.properties ?? {}).map(([name, section]) =>
    toSection(name, asSchema(section)),
  )
  return `${INTRODUCTION}\n${sections.join('\n')}`
}

function toSection(name: string, schema: Schema): string {
  const { path, entry } = openCollection(name, schema)
  const rows = Object.entries(entry.properties ?? {}).flatMap(([child, value]) =>
    listRows(child, asSchema(value), entry.required?.includes(child) === true),
  )
  return [
    `## ${path}`,
    '',
    ...new Set([schema.description, entry.description]),
    '',
    '| Setting | Value | Default | |',
    '|---|---|---|---|',
    ...rows,
    '',
  ].join('\n')
}

/** Settings of entries stand in the place of their list or map. */
function openCollection(path: string, schema: Schema): { readonly path: string; readonly entry: Schema } {
  const items = asSchema(Array.isArray(schema.items) ? schema.items[0] : schema.items)
  if (items.properties !== undefined) return { path: `${path}[]`, entry: items }
  const values = asSchema(schema.additionalProperties)
  if (values.properties !== undefined) return { path: `${path}.NAME`, entry: values }
  return { path, entry: schema }
}

/** A setting, and those inside of it. */
function listRows(name: string, schema: Schema, isRequired: boolean): string[] {
  const { path, entry } = openCollection(name, schema)
  const preset = toDefault(schema, isRequired)
  const row = `| \`${name}\` | ${toValueText(schema)} | ${preset} | ${escapeCell(schema.description ?? '')} |`
  const inner = Object.entries(entry.properties ?? {}).flatMap(([child, value]) =>
    listRows(`${path}.${child}`, asSchema(value), entry.required?.includes(child) === true),
  )
  return [row, ...inner]
}

function toDefault({ default: preset, not }: Schema, isRequired: boolean): string {
  if (isRequired) return '**required**'
  if (not !== undefined || preset === undefined) return ''
  return JSON.stringify(preset) === '{}' ? '' : `\`${escapeCell(toYaml(preset))}\``
}

function toYaml(value: unknown): string {
  if (typeof value === 'string') return value
  return Array.isArray(value) ? `[${value.map(toYaml).join(', ')}]` : JSON.stringify(value)
}

function toValueText(schema: Schema): string {
  const { anyOf, type, items, additionalProperties, enum: words } = schema
  if (schema.not !== undefined) return 'not available yet'
  if (schema.const !== undefined) return `\`${schema.const}\``
  if (words !== undefined) return words.map((word) => `\`${word}\``).join(', ')
  if (anyOf !== undefined) return toAlternatives(anyOf)
  switch (type) {
    case 'boolean':
      return '`true`, `false`'
    case 'integer':
    case 'number':
      return `number${toRange(schema)}`
    case 'array':
      return `list${toContent(asSchema(Array.isArray(items) ? items[0] : items))}`
    case 'object':
      return schema.properties !== undefined ? '' : `map${toContent(asSchema(additionalProperties))}`
    default:
      return 'text'
  }
}

function toContent(entry: Schema): string {
  const text = entry.properties === undefined ? toValueText(entry) : ''
  return text === '' || text === 'text' ? '' : ` of ${text}`
}

/** A duration is also a number, and a size too: the introduction says so once. */
function toAlternatives(choices: readonly Schema[]): string {
  const flat = choices.flatMap((choice) => choice.anyOf ?? [choice])
  const quantity = flat.map(({ pattern = '' }) => toQuantity(pattern)).find((name) => name !== '')
  const others = flat.filter(
    ({ pattern = '', type }) => toQuantity(pattern) === '' && (quantity === undefined || type !== 'integer'),
  )
  return [
    ...(quantity === undefined ? [] : [quantity]),
    ...others.map((other) => toValueText(other) || 'settings'),
  ].join(', ')
}

function toQuantity(pattern: string): string {
  if (pattern.includes('(ms|s|m|h|d)')) return 'duration'
  return pattern.includes('(B|KiB|MiB|GiB)') ? 'size' : ''
}

function toRange({ minimum, maximum }: Schema): string {
  const isEndless = maximum === undefined || maximum >= Number.MAX_SAFE_INTEGER
  if (minimum === undefined) return ''
  return isEndless ? ` from ${minimum}` : ` ${minimum} to ${maximum}`
}

function asSchema(schema: Schema | boolean | undefined): Schema {
  return typeof schema === 'object' ? schema : {}
}

function escapeCell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ')
}
