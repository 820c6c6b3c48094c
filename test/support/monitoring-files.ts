import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { parse } from 'yaml'

/** What is shipped for Prometheus and Grafana, taken apart for tests. */

export const MONITORING_DIR = path.resolve(import.meta.dirname, '../../config')

export interface Query {
  /** For messages: which panel, variable or rule. */
  readonly where: string
  readonly expression: string
  /** Texts that name labels of the result: legends and annotations. */
  readonly labelTexts: readonly string[]
}

interface Rule {
  readonly record?: string
  readonly alert?: string
  readonly expr: string
  readonly for?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
}

export interface GrafanaPanel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly description?: string
  readonly datasource?: unknown
  readonly gridPos: { readonly h: number; readonly w: number; readonly x: number; readonly y: number }
  readonly targets?: readonly {
    readonly refId: string
    readonly expr: string
    readonly legendFormat: string
    readonly datasource: unknown
  }[]
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } }
}

export interface GrafanaDashboard {
  readonly id: null
  readonly uid: string
  readonly title: string
  readonly schemaVersion: number
  readonly panels: readonly GrafanaPanel[]
  readonly annotations: { readonly list: readonly { readonly name: string; readonly expr: string }[] }
  readonly templating: {
    readonly list: readonly { readonly name: string; readonly type: string; readonly query: unknown }[]
  }
}

export function readDashboards(): readonly GrafanaDashboard[] {
  const dir = path.join(MONITORING_DIR, 'grafana/dashboards')
  return readdirSync(dir).map((name) => JSON.parse(readFileSync(path.join(dir, name), 'utf8')))
}

export function readRules(): readonly Rule[] {
  return ['recording-rules.yaml', 'alert-rules.yaml'].flatMap((name) => {
    const text = readFileSync(path.join(MONITORING_DIR, 'prometheus', name), 'utf8')
    const { groups } = parse(text) as { groups: readonly { readonly rules: readonly Rule[] }[] }
    return groups.flatMap(({ rules }) => rules)
  })
}

export function listQueries(): readonly Query[] {
  return [
    ...readDashboards().flatMap(listDashboardQueries),
    ...readRules().map((rule) => ({
      where: `rule ${rule.record ?? rule.alert}`,
      expression: rule.expr,
      labelTexts: Object.values(rule.annotations ?? {}),
    })),
  ]
}

function listDashboardQueries({ title, panels, templating, annotations }: GrafanaDashboard): Query[] {
  return [
    ...panels.flatMap((panel) =>
      (panel.targets ?? []).map(({ expr, legendFormat }) => ({
        where: `${title}: ${panel.title}`,
        expression: expr,
        labelTexts: [legendFormat],
      })),
    ),
    ...annotations.list.map(({ name, expr }) => ({
      where: `${title}: ${name}`,
      expression: expr,
      labelTexts: [name],
    })),
    ...templating.list.flatMap(({ name, type, query }) => {
      if (type !== 'query') return []
      const { query: text } = query as { query: string }
      const [, expression = '', label = ''] = /^label_values\((.+), (\w+)\)$/.exec(text) ?? []
      return [{ where: `${title}: variable ${name}`, expression, labelTexts: [`{{${label}}}`] }]
    }),
  ]
}
