import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { loadConfig } from '../../src/config/load.ts'

/*
 * Containers cannot be started in most places where tests run, so what compose.yaml says is held
 * against what the files that it mounts say: names, ports, paths.
 */

interface Service {
  readonly image: string
  readonly build?: string
  readonly environment?: Readonly<Record<string, string>>
  readonly ports?: readonly string[]
  readonly volumes?: readonly string[]
  readonly command?: readonly string[]
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>
  readonly healthcheck?: { readonly test: readonly string[] }
}

const ROOT = path.resolve(import.meta.dirname, '../..')
const read = (file: string) => readFileSync(path.join(ROOT, file), 'utf8')
const { services, volumes } = parse(read('compose.yaml')) as {
  services: Readonly<Record<string, Service>>
  volumes: object
}
const names = Object.keys(services)

function serviceOf(name: string): Service {
  const service = services[name]
  if (service === undefined) throw new Error(`compose.yaml has no ${name}`)
  return service
}

/** The path of this machine that a service sees under a path of its own. */
function locateMounted(name: string, inside: string): string {
  for (const volume of serviceOf(name).volumes ?? []) {
    const [from = '', to = ''] = volume.split(':')
    if (inside === to || inside.startsWith(`${to}/`)) return path.join(ROOT, from + inside.slice(to.length))
  }
  throw new Error(`${name} has nothing at ${inside}`)
}

it('has the five services', () => {
  expect(names.toSorted()).toEqual(['gateway', 'grafana', 'prometheus', 'redis', 'upstream'])
})

describe.each(names)('%s', (name) => {
  const service = serviceOf(name)

  it('has an image of a fixed version', () => {
    expect(service.image).toMatch(/^[a-z/]+:[\w.-]+$/)
    expect(service.image).not.toMatch(/latest/)
    if (service.build === undefined) expect(service.image).toMatch(/:v?\d+\.\d+\.\d+(-[a-z]+)?$/)
    else expect(existsSync(path.join(ROOT, service.build, 'Dockerfile'))).toBe(true)
  })

  it('says when it is well, and waits for those that do', () => {
    expect(service.healthcheck?.test[0]).toBe('CMD')
    for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
      expect(serviceOf(other).healthcheck).toBeDefined()
      expect(condition).toBe('service_healthy')
    }
  })

  it('publishes ports on this machine only, and mounts what is there', () => {
    for (const port of service.ports ?? []) expect(port).toMatch(/^127\.0\.0\.1:(\d+):\1$/)
    for (const volume of service.volumes ?? []) {
      const [from = '', , mode] = volume.split(':')
      if (!from.startsWith('.')) expect(volumes).toHaveProperty(from)
      else expect([existsSync(path.join(ROOT, from)), mode], volume).toEqual([true, 'ro'])
    }
  })
})

it('gives the gateway a configuration that is valid and fits the other services', () => {
  const { environment = {}, ports = [] } = serviceOf('gateway')
  const file = locateMounted('gateway', path.posix.join('/app', environment['DRIPGATE_CONFIG'] ?? ''))
  const loaded = loadConfig({ file, env: {} })
  if (loaded.kind === 'invalid') throw new Error(JSON.stringify(loaded.problems))
  const { gateway, admin, store, upstreams } = loaded.config
  const published = ports.map((port) => Number(port.split(':')[2]))
  expect(published).toEqual([gateway.listen.port, admin.listen.port])
  expect([gateway.listen.host, admin.listen.host]).toEqual(['0.0.0.0', '0.0.0.0'])
  const targets = Object.values(upstreams).flatMap(({ targets }) => targets)
  for (const url of [store.redis?.url ?? '', ...targets.map(String)]) {
    expect(names, url).toContain(new URL(url).hostname)
  }
  expect(read('config/compose/upstream.mjs')).toContain(`listen(${new URL(String(targets[0])).port})`)
  expect(read('Dockerfile')).toContain('ENTRYPOINT ["node", "dist/main.js"]')
})

it('lets Prometheus find its files and the gateway', () => {
  const flag =
    serviceOf('prometheus').command?.find((argument) => argument.startsWith('--config.file=')) ?? ''
  const file = locateMounted('prometheus', flag.slice('--config.file='.length))
  const config = parse(readFileSync(file, 'utf8')) as {
    rule_files: readonly string[]
    scrape_configs: readonly { static_configs: readonly { targets: readonly string[] }[] }[]
  }
  for (const rules of config.rule_files) expect(existsSync(path.join(path.dirname(file), rules))).toBe(true)
  const targets = config.scrape_configs.flatMap(({ static_configs }) =>
    static_configs.flatMap((each) => each.targets),
  )
  expect(targets).toEqual(['gateway:7131'])
  expect(parse(read('config/compose/gateway.yaml')).admin.listen).toMatch(/:7131$/)
})

it('lets Grafana find Prometheus and the dashboards', () => {
  const { environment = {} } = serviceOf('grafana')
  const url = new URL(environment['PROMETHEUS_URL'] ?? '')
  expect(serviceOf(url.hostname).ports?.join()).toContain(`:${url.port}`)
  const home = environment['GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH'] ?? ''
  expect(existsSync(locateMounted('grafana', home))).toBe(true)
  const { providers } = parse(
    readFileSync(locateMounted('grafana', '/etc/grafana/provisioning/dashboards/dripgate.yaml'), 'utf8'),
  )
  expect(existsSync(locateMounted('grafana', providers[0].options.path))).toBe(true)
  expect(existsSync(locateMounted('grafana', '/etc/grafana/provisioning/datasources/prometheus.yaml'))).toBe(
    true,
  )
})
