/** Text with places that each request fills: `user:{header.x-user-id}`. */
export type TemplatePart =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'path' | 'host' | 'key_id' | 'keyspace_id' }
  /** The segment of the path with this number, from 1. */
  | { readonly kind: 'segment'; readonly number: number }
  /** `name` in lower case for a header field, as it is for a query parameter. */
  | { readonly kind: 'header' | 'query'; readonly name: string }

export type ParsedTemplate =
  | { readonly kind: 'template'; readonly parts: readonly TemplatePart[] }
  | { readonly kind: 'problem'; readonly problem: string }

const PLACES = '{path}, {path.N}, {host}, {header.NAME}, {query.NAME}, {key_id} or {keyspace_id}'
const FIELD_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/
const PARAMETER_NAME = /^[A-Za-z0-9._~-]{1,64}$/

export function parseTemplate(text: string): ParsedTemplate {
  const parts: TemplatePart[] = []
  for (let at = 0; at < text.length; ) {
    const open = text.indexOf('{', at)
    const end = open < 0 ? text.length : open
    const literal = text.slice(at, end)
    if (literal.includes('}')) return toProblem('must not hold a "}" without its "{"')
    if (literal !== '') parts.push({ kind: 'text', text: literal })
    if (open < 0) break
    const close = text.indexOf('}', open)
    if (close < 0) return toProblem('must close every "{" with a "}"')
    const part = parsePlace(text.slice(open + 1, close))
    if (part === undefined) return toProblem(`must name in braces one of ${PLACES}`)
    parts.push(part)
    at = close + 1
  }
  return { kind: 'template', parts }
}

function parsePlace(place: string): TemplatePart | undefined {
  if (place === 'path' || place === 'host' || place === 'key_id' || place === 'keyspace_id') {
    return { kind: place }
  }
  const dot = place.indexOf('.')
  const kind = place.slice(0, dot)
  const name = place.slice(dot + 1)
  if (kind === 'path' && /^[1-9]\d?$/.test(name)) return { kind: 'segment', number: Number(name) }
  if (kind === 'header' && FIELD_NAME.test(name)) return { kind, name: name.toLowerCase() }
  if (kind === 'query' && PARAMETER_NAME.test(name)) return { kind, name }
  return undefined
}

function toProblem(problem: string): ParsedTemplate {
  return { kind: 'problem', problem }
}
