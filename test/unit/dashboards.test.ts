import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { MONITORING_DIR, readDashboards, readRules } from '../support/monitoring-files.ts'

const DATASOURCE = { type: 'prometheus', uid: '${datasource}' }
const ROOT = path.resolve(MONITORING_DIR, '..')

function readYaml(file: string): unknown {
  return parse(readFileSync(path.join(MONITORING_DIR, file), 'utf8'))
}

describe.each(readDashboards().map((dashboard) => [dashboard.uid, dashboard] as const))(
  '%s',
  (_, dashboard) => {
    const panels = dashboard.panels.filter(({ type }) => type !== 'row')

    it('is classic JSON that any Grafana takes in', () => {
      expect(dashboard.id).toBeNull()
      expect(dashboard.uid).toMatch(/^dripgate-[a-z]+$/)
      expect(dashboard.schemaVersion).toBeGreaterThanOrEqual(39)
      expect(dashboard.schemaVersion).toBeLessThanOrEqual(41)
      expect(dashboard.templating.list[0]).toMatchObject({
        name: 'datasource',
        type: 'datasource',
        query: 'prometheus',
      })
      expect(panels.length).toBeGreaterThan(3)
    })

    it('says of each panel what it shows, in which unit, and leaves the data source to the variable', () => {
      for (const panel of panels) {
        expect(panel.description, panel.title).toMatch(/^\S.{20,}\.$/s)
        expect(panel.fieldConfig?.defaults.unit, panel.title).toBeTruthy()
        expect(panel.datasource, panel.title).toEqual(DATASOURCE)
        expect(panel.targets?.length, panel.title).toBeGreaterThan(0)
        for (const target of panel.targets ?? []) expect(target.datasource).toEqual(DATASOURCE)
      }
    })

    it('has panels that do not overlap, with ids of their own', () => {
      const taken = new Set<string>()
      for (const { gridPos, title } of dashboard.panels) {
        expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24)
        for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
          for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
            expect(taken, title).not.toContain(`${x},${y}`)
            taken.add(`${x},${y}`)
          }
        }
      }
      expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length)
    })
  },
)

it('gives every dashboard a uid and a title of its own', () => {
  const dashboards = readDashboards()
  expect(dashboards.length).toBe(6)
  expect(new Set(dashboards.map(({ uid }) => uid)).size).toBe(dashboards.length)
  expect(new Set(dashboards.map(({ title }) => title)).size).toBe(dashboards.length)
})

it('provisions a data source and the folder of the dashboards', () => {
  expect(readYaml('grafana/provisioning/datasources/prometheus.yaml')).toMatchObject({
    apiVersion: 1,
    datasources: [{ type: 'prometheus', url: '${PROMETHEUS_URL}' }],
  })
  expect(readYaml('grafana/provisioning/dashboards/dripgate.yaml')).toMatchObject({
    apiVersion: 1,
    providers: [{ type: 'file', options: { path: '/etc/grafana/dashboards' } }],
  })
})

it('says of every alert how bad it is and what to do about it', () => {
  const guide = readFileSync(path.join(ROOT, 'docs/alerts.md'), 'utf8')
  const sections = [...guide.matchAll(/^## (\S+)$/gm)].map(([, name]) => name)
  const alerts = readRules().filter(({ alert }) => alert !== undefined)
  for (const { alert = '', labels, annotations } of alerts) {
    expect(['page', 'ticket'], alert).toContain(labels?.['severity'])
    expect(annotations?.['summary'], alert).toBeTruthy()
    expect(annotations?.['description'], alert).toBeTruthy()
    expect(annotations?.['runbook_url'], alert).toBe(`docs/alerts.md#${alert.toLowerCase()}`)
  }
  expect(sections.toSorted()).toEqual(alerts.map(({ alert }) => alert).toSorted())
})

it('names in the Prometheus configuration only rule files that exist', () => {
  const { rule_files } = readYaml('prometheus/prometheus.yaml') as { rule_files: readonly string[] }
  expect(rule_files.length).toBeGreaterThan(0)
  for (const file of rule_files)
    expect(existsSync(path.join(MONITORING_DIR, 'prometheus', file)), file).toBe(true)
})
