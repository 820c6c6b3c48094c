import { toJsonSchema } from '../../src/config/json-schema.ts'
import { DASHBOARDS } from './dashboards.ts'
import { toDashboardJson } from './grafana.ts'

/** Path from the root of the project → what belongs there. */
export async function generateFiles(): Promise<ReadonlyMap<string, string>> {
  return new Map([
    ['config/gateway.schema.json', `${JSON.stringify(toJsonSchema(), null, 2)}\n`],
    ...DASHBOARDS.map(
      (dashboard) => [`config/grafana/dashboards/${dashboard.uid}.json`, toDashboardJson(dashboard)] as const,
    ),
  ])
}
