import { toMark, toUrlMark } from '../../domain/purge-marks.ts'
import type { TemplatePart } from '../../domain/template.ts'
import type { ExchangeState } from '../exchange.ts'
import { decodePercent } from '../percent.ts'
import { findField, joinFields, type RawHeaders, trimBlanks } from '../raw-headers.ts'
import { toUrlPath } from './cache-request.ts'
import type { CacheRules, Template } from './rules.ts'

/** Fields that only caches are to see (RFC 9875 says nothing of the kind of its own). */
export const TAG_FIELDS: ReadonlySet<string> = new Set(['cache-tag', 'surrogate-key'])

const TAGS_MAX = 256
/** One item of a structured list that is a string (RFC 9651 section 3.3.3), with parameters. */
const SF_STRING = /^"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"(?:;.*)?$/

/** The counters that purge an answer; `undefined` where it has more tags than can be kept. */
export function listMarks(
  exchange: ExchangeState,
  rules: CacheRules,
  rawHeaders: RawHeaders,
): number[] | undefined {
  const tags = listAnswerTags(rawHeaders)
  if (tags.length > TAGS_MAX) return undefined
  const marks = new Set(listUrlMarks(exchange))
  marks.add(toMark('route', exchange.routeName))
  if (exchange.kid !== '') marks.add(toMark('key', exchange.kid))
  if (exchange.ksid !== '') marks.add(toMark('keyspace', exchange.ksid))
  const name = rules.name === undefined ? '' : fill(exchange, rules.name)
  if (name !== '') marks.add(toMark('name', name))
  for (const template of rules.tags) {
    const tag = fill(exchange, template)
    if (tag !== '') marks.add(toMark('tag', tag))
  }
  for (const tag of tags) marks.add(toMark('tag', tag))
  for (const group of listGroups(rawHeaders, 'cache-groups')) {
    marks.add(toMark('tag', group))
    marks.add(toGroupMark(exchange, group))
  }
  return [...marks]
}

/** Of the URL that the client asked for: on its host, and on any. */
function listUrlMarks(exchange: ExchangeState): number[] {
  const { route, head } = exchange
  if (route === undefined || head === undefined) return []
  const path = toUrlPath(route, head)
  return [toUrlMark(head.host, path), toUrlMark('', path)]
}

/** What the answer to an unsafe request makes out of date (RFC 9111 section 4.4, RFC 9875 section 3). */
export function listChangedMarks(exchange: ExchangeState, rawHeaders: RawHeaders): number[] {
  const marks = listUrlMarks(exchange)
  for (const name of ['location', 'content-location']) {
    const reference = findField(rawHeaders, name)
    const mark = reference === undefined ? undefined : toReferredMark(exchange, reference)
    if (mark !== undefined) marks.push(mark)
  }
  for (const group of listGroups(rawHeaders, 'cache-group-invalidation')) {
    marks.push(toGroupMark(exchange, group))
  }
  return marks
}

/** A URL on the same host, as a mark; another host's answers are not this one's to drop. */
function toReferredMark(exchange: ExchangeState, reference: string): number | undefined {
  const { head } = exchange
  const base = URL.parse(`${exchange.client.protocol}://${head?.host ?? ''}${head?.path ?? '/'}`)
  const url = base === null ? null : URL.parse(reference, base.href)
  if (base === null || url === null || url.host !== base.host) return undefined
  return toUrlMark(head?.host ?? '', url.pathname + url.search)
}

/** Groups are those of one origin. */
function toGroupMark(exchange: ExchangeState, group: string): number {
  return toMark('group', `${exchange.head?.host.toLowerCase() ?? ''} ${group}`)
}

function listAnswerTags(rawHeaders: RawHeaders): string[] {
  const byComma = joinFields(rawHeaders, 'cache-tag').split(',')
  const bySpace = joinFields(rawHeaders, 'surrogate-key').split(/[ \t,]+/)
  return [...byComma.map((tag) => trimBlanks(tag)), ...bySpace].filter((tag) => tag !== '')
}

/** Members of a structured list that are strings; a list that is malformed has none. */
function listGroups(rawHeaders: RawHeaders, name: string): string[] {
  const list = joinFields(rawHeaders, name)
  if (list === '') return []
  const groups: string[] = []
  for (const item of list.match(/(?:"(?:[^"\\]|\\.)*"|[^",])+/g) ?? []) {
    const [, text] = SF_STRING.exec(trimBlanks(item)) ?? []
    if (text === undefined) return []
    groups.push(text.replace(/\\(.)/g, '$1'))
  }
  return groups.slice(0, TAGS_MAX)
}

/** `''` where a place has nothing to fill it: half a tag would be one for all. */
function fill(exchange: ExchangeState, template: Template): string {
  let text = ''
  for (const part of template) {
    const value = toText(exchange, part)
    if (value === '') return ''
    text += value
  }
  return text
}

function toText(exchange: ExchangeState, part: TemplatePart): string {
  const { head, client, kid, ksid } = exchange
  if (head === undefined) return ''
  switch (part.kind) {
    case 'text':
      return part.text
    case 'path':
      return head.path
    case 'segment':
      return decodePercent(head.path.split('/').filter(Boolean)[part.number - 1] ?? '')
    case 'host':
      return head.hostname
    case 'header':
      return joinFields(client.rawHeaders, part.name)
    case 'query':
      return readParameter(head.query, part.name)
    case 'key_id':
      return kid
    case 'keyspace_id':
      return ksid
  }
}

function readParameter(query: string, name: string): string {
  for (const pair of query.split('&')) {
    const equals = pair.indexOf('=')
    if (equals > 0 && decodePercent(pair.slice(0, equals)) === name)
      return decodePercent(pair.slice(equals + 1))
  }
  return ''
}
