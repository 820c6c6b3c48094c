import { readFileSync } from 'node:fs'
import { toJsonSchema } from '../../src/config/json-schema.ts'
import { toConfigurationReference } from './configuration.ts'
import { DASHBOARDS } from './dashboards.ts'
import { toDashboardJson } from './grafana.ts'
import { fillMetricsTable } from './metrics-table.ts'

/** Path from the root of the project → what belongs there. */
export async function generateFiles(): Promise<ReadonlyMap<string, string>> {
  return new Map([
    ['config/gateway.schema.json', `${JSON.stringify(toJsonSchema(), null, 2)}\n`],
    ['docs/configuration.md', toConfigurationReference()],
    ['docs/monitoring.md', await fillMetricsTable(readProjectFile('docs/monitoring.md'))],
    ...DASHBOARDS.map(
      (dashboard) => [`config/grafana/dashboards/${dashboard.uid}.json`, toDashboardJson(dashboard)] as const,
    ),
  ])
}

function readProjectFile(file: string): string {
  return readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8')
}
