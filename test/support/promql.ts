import { parser } from '@prometheus-io/lezer-promql'

/** One metric as an expression asks for it. */
export interface Selector {
  readonly metric: string
  /** By label; a regular expression is taken apart at its bars. */
  readonly matchers: ReadonlyMap<string, readonly string[]>
}

export interface Expression {
  readonly selectors: readonly Selector[]
  /** Labels of `by`, `without`, `on`, `ignoring` and `group_left`. */
  readonly grouping: ReadonlySet<string>
}

/** Variables that Grafana replaces, outside of quotes. */
const VARIABLES: readonly (readonly [RegExp, string])[] = [[/\$__(rate_interval|interval|range)\b/g, '5m']]

/** Throws where Prometheus would not understand it. */
export function parsePromQl(text: string): Expression {
  const plain = VARIABLES.reduce((so, [variable, value]) => so.replaceAll(variable, value), text)
  const selectors: { metric: string; matchers: Map<string, readonly string[]> }[] = []
  const grouping = new Set<string>()
  const slice = (node: { readonly from: number; readonly to: number }) => plain.slice(node.from, node.to)
  parser.parse(plain).iterate({
    enter(node) {
      if (node.type.isError) throw new Error(`PromQL breaks off at ${node.from}: ${plain}`)
      const last = selectors.at(-1)
      switch (node.name) {
        case 'VectorSelector':
          selectors.push({ metric: slice(node.node.getChild('Identifier') ?? node), matchers: new Map() })
          return
        case 'UnquotedLabelMatcher': {
          const label = node.node.getChild('LabelName')
          const value = node.node.getChild('StringLiteral')
          if (label === null || value === null || last === undefined) throw new Error(`no matcher: ${plain}`)
          last.matchers.set(slice(label), slice(value).slice(1, -1).split('|'))
          return
        }
        case 'GroupingLabels':
          for (const label of node.node.getChildren('LabelName')) grouping.add(slice(label))
      }
    },
  })
  return { selectors, grouping }
}
