/*
 * Dashboards as they are written here, and as Grafana reads them: Classic JSON, which every Grafana
 * from 9 on loads, with the data source as a variable.
 */

/** Of Grafana: https://grafana.com/docs, "standard options". */
export type Unit = 'reqps' | 'ops' | 'cps' | 'Bps' | 'bytes' | 's' | 'percentunit' | 'short' | 'dateTimeAsIso'

export interface Panel {
  readonly title: string
  /** What it shows, and what a bad sign looks like. */
  readonly description: string
  readonly unit: Unit
  /** `I` stands for the choice of instances, `R` of routes, `U` of upstreams: `{I, R, code="5xx"}`. */
  readonly queries: readonly (readonly [expression: string, legend: string])[]
  readonly kind?: 'timeseries' | 'stat' | 'heatmap'
  /** Of 24 columns; 12 unless said otherwise, 4 for a stat. */
  readonly width?: number
  readonly isStacked?: boolean
  /** The value from which a stat is red; green below. `down` turns that round. */
  readonly redFrom?: number
  readonly redBelow?: number
}

export interface Row {
  readonly title: string
  readonly panels: readonly Panel[]
}

export interface Dashboard {
  readonly uid: string
  readonly title: string
  readonly description: string
  readonly variables: readonly ('route' | 'upstream')[]
  readonly rows: readonly Row[]
}

const SCHEMA_VERSION = 39
const WIDTH = 24
const DATASOURCE = { type: 'prometheus', uid: '${datasource}' }
const SELECTORS: Readonly<Record<string, string>> = {
  I: 'job=~"$job", instance=~"$instance"',
  R: 'route=~"$route"',
  U: 'upstream=~"$upstream"',
}
const VARIABLE_SOURCES = {
  job: 'label_values(dripgate_build_info, job)',
  instance: 'label_values(dripgate_build_info{job=~"$job"}, instance)',
  route: 'label_values(dripgate_requests_total{job=~"$job"}, route)',
  upstream: 'label_values(dripgate_upstream_duration_seconds_count{job=~"$job"}, upstream)',
}

export function toDashboardJson(dashboard: Dashboard): string {
  const { uid, title, description, variables, rows } = dashboard
  const json = {
    id: null,
    uid,
    title,
    description,
    tags: ['dripgate'],
    editable: true,
    graphTooltip: 1,
    schemaVersion: SCHEMA_VERSION,
    version: 1,
    refresh: '30s',
    time: { from: 'now-1h', to: 'now' },
    timezone: 'browser',
    annotations: { list: [toReloadAnnotation()] },
    links: [
      {
        type: 'dashboards',
        title: 'Dripgate',
        tags: ['dripgate'],
        asDropdown: true,
        includeVars: true,
        keepTime: true,
      },
    ],
    templating: {
      list: [
        { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus', current: {} },
        ...(['job', 'instance', ...variables] as const).map(toVariable),
      ],
    },
    panels: layOut(rows),
  }
  return `${JSON.stringify(json, null, 2)}\n`
}

/** A line in every graph where a configuration was put into force. */
function toReloadAnnotation() {
  return {
    name: 'Configuration reloaded',
    datasource: DATASOURCE,
    enable: true,
    iconColor: 'blue',
    expr: expand('changes(dripgate_config_last_reload_timestamp_seconds{I}[$__interval]) > 0'),
    titleFormat: 'Configuration reloaded on {{instance}}',
  }
}

function toVariable(name: keyof typeof VARIABLE_SOURCES) {
  const query = VARIABLE_SOURCES[name]
  return {
    name,
    label: name,
    type: 'query',
    datasource: DATASOURCE,
    definition: query,
    query: { query, refId: name },
    refresh: 2,
    sort: 1,
    multi: true,
    includeAll: true,
    allValue: '.*',
    current: { selected: true, text: ['All'], value: ['$__all'] },
  }
}

/** Rows from top to bottom, and their panels from left to right. */
function layOut(rows: readonly Row[]): unknown[] {
  const panels: unknown[] = []
  let y = 0
  for (const row of rows) {
    panels.push({
      id: panels.length + 1,
      type: 'row',
      title: row.title,
      collapsed: false,
      panels: [],
      gridPos: { h: 1, w: WIDTH, x: 0, y: y++ },
    })
    let x = 0
    let lineHeight = 0
    for (const panel of row.panels) {
      const size = { h: panel.kind === 'stat' ? 4 : 8, w: panel.width ?? (panel.kind === 'stat' ? 4 : 12) }
      if (x + size.w > WIDTH) {
        x = 0
        y += lineHeight
        lineHeight = 0
      }
      panels.push(toPanel(panel, panels.length + 1, { ...size, x, y }))
      x += size.w
      lineHeight = Math.max(lineHeight, size.h)
    }
    y += lineHeight
  }
  return panels
}

function toPanel(panel: Panel, id: number, gridPos: object) {
  const kind = panel.kind ?? 'timeseries'
  return {
    id,
    type: kind,
    title: panel.title,
    description: panel.description,
    datasource: DATASOURCE,
    gridPos,
    targets: panel.queries.map(([expression, legend], index) => ({
      refId: String.fromCharCode(65 + index),
      datasource: DATASOURCE,
      expr: expand(expression),
      legendFormat: legend,
      range: kind !== 'stat',
      instant: kind === 'stat',
      exemplar: kind === 'timeseries' && expression.includes('_bucket'),
      ...(kind === 'heatmap' ? { format: 'heatmap' } : {}),
    })),
    fieldConfig: { defaults: toDefaults(panel), overrides: [] },
    options: toOptions(kind, panel.unit),
  }
}

function toDefaults({ kind, unit, isStacked, redFrom, redBelow }: Panel) {
  const defaults = { unit, min: unit === 'dateTimeAsIso' ? undefined : 0 }
  if (kind === 'stat') {
    const isReversed = redBelow !== undefined
    const threshold = redFrom ?? redBelow
    const steps = [{ color: isReversed ? 'red' : 'green', value: null as number | null }]
    if (threshold !== undefined) steps.push({ color: isReversed ? 'green' : 'red', value: threshold })
    return { ...defaults, thresholds: { mode: 'absolute', steps } }
  }
  if (kind === 'heatmap') return defaults
  return {
    ...defaults,
    custom: {
      drawStyle: 'line',
      lineWidth: 1,
      fillOpacity: isStacked ? 30 : 5,
      showPoints: 'never',
      stacking: { mode: isStacked ? 'normal' : 'none', group: 'A' },
    },
  }
}

function toOptions(kind: 'timeseries' | 'stat' | 'heatmap', unit: Unit) {
  switch (kind) {
    case 'stat':
      return { reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false }, colorMode: 'value' }
    case 'heatmap':
      return { calculate: false, yAxis: { unit }, color: { mode: 'scheme', scheme: 'Oranges', steps: 64 } }
    case 'timeseries':
      return {
        legend: { displayMode: 'table', placement: 'bottom', calcs: ['lastNotNull', 'max'] },
        tooltip: { mode: 'multi', sort: 'desc' },
      }
  }
}

/** `{I, R}` → the label matchers that the variables of the dashboard choose by. */
function expand(expression: string): string {
  return expression.replaceAll(/\{([IRU](?:, ?[IRU])*)(,[^}]*)?\}/g, (_, names: string, rest = '') => {
    const matchers = names.split(/, ?/).map((name) => SELECTORS[name])
    return `{${matchers.join(', ')}${rest}}`
  })
}
