import { createCounters, createNames, openRegion } from '../../src/telemetry/counters.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { parseExposition } from '../../test/support/exposition.ts'

/* The table in docs/monitoring.md: every metric of ours with its labels and its help text. */

const BEGIN = '<!-- npm run generate writes from here -->'
const END = '<!-- to here -->'

/** `page` with its table as the code has it now. */
export async function fillMetricsTable(page: string): Promise<string> {
  const [before, rest] = page.split(BEGIN)
  const after = rest?.split(END)[1]
  if (before === undefined || after === undefined) throw new Error(`the page has no ${BEGIN} … ${END}`)
  return `${before}${BEGIN}\n${await toMetricsTable()}\n${END}${after}`
}

async function toMetricsTable(): Promise<string> {
  const text = await renderEverything()
  const { families, samples } = parseExposition(text)
  const rows = [...families].flatMap(([name, type]) => {
    if (!name.startsWith('dripgate_')) return []
    const labels = [...(samples.get(name) ?? samples.get(`${name}_count`) ?? new Map()).keys()]
    const help = new RegExp(`^# HELP ${name} (.+)$`, 'm').exec(text)?.[1] ?? ''
    return [`| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${help} |`]
  })
  return ['| Metric | Type | Labels | |', '|---|---|---|---|', ...rows].join('\n')
}

/** The metrics of a thread that has counted one of everything, so that every label is seen. */
async function renderEverything(): Promise<string> {
  const counters = createCounters(1)
  const names = createNames()
  names.add({ routes: ['orders'], upstreams: ['orders'] })
  openRegion(counters, 0).fill(1)
  const target = { up: 1, ejected: 1, down: 1, ejections: 1 }
  const orders = { name: 'orders', isCircuitOpen: true, circuitOpenings: 1, retries: 1, retriesRefused: 1 }
  const upstreams = () => [{ ...orders, targets: [target] }]
  const metrics = createMetrics({ counters, names, version: '0', nowMs: () => 0, upstreams })
  metrics.countAdminRequest(200)
  metrics.countScriptCall('get-redis-keys', 'success', { done: 1, missing: 0, failed: 0 })
  metrics.setCertificates([{ expiresAt: 0 }])
  return (await metrics.render()).body
}
