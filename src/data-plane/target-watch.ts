import type { Config } from '../config/schema.ts'
import type { Logger } from '../ports/runtime.ts'
import type { TargetFigures, UpstreamFigures } from '../ports/target-figures.ts'
import { HealthCell } from './health-cell.ts'
import { createHealthChecks } from './health-checks.ts'
import { createNameResolver } from './name-resolver.ts'
import { createTargetDirectory, type TargetSeed } from './target-directory.ts'
import { parseOrigin } from './upstream/origin.ts'

/**
 * Everything that the control thread does for targets: it resolves their names, checks them, and
 * keeps the memory in which all threads note their health.
 */
export interface TargetWatch {
  /** As of now. */
  seed(): TargetSeed
  /** For a configuration that may come into force. Throws where there are too many targets. */
  prepare(config: Config): Promise<TargetSeed>
  /** This configuration is in force: from now on its targets are watched. */
  commit(config: Config): void
  /** What was prepared is not needed. */
  abandon(): void
  figures(): UpstreamFigures[]
  close(): void
}

/** The longest that a start or a reload waits for names; what is missing then comes later. */
const RESOLVE_MS_MAX = 5000

/** `onChange`: the addresses of a configuration in force are new. */
export async function openTargetWatch(deps: {
  readonly config: Config
  readonly logger: Logger
  readonly onChange: (seed: TargetSeed) => void
}): Promise<TargetWatch> {
  const { logger, onChange } = deps
  let config: Config | undefined
  let prepared: TargetSeed | undefined
  const directory = createTargetDirectory()
  const checks = createHealthChecks(logger)
  const resolver = createNameResolver({ servers: deps.config.gateway.dns.servers, logger, onChange: refresh })
  let seed = await prepare(deps.config)

  async function prepare(next: Config): Promise<TargetSeed> {
    await resolver.learn(listHosts(next), RESOLVE_MS_MAX)
    prepared = directory.list(next, resolver.addresses)
    return prepared
  }

  function refresh(): void {
    if (config === undefined) return
    try {
      seed = directory.list(config, resolver.addresses)
    } catch (error) {
      logger.error('the new addresses of a target cannot be used', { error })
      return
    }
    onChange(seed)
    checks.follow(config, seed)
    directory.keep(prepared === undefined ? [seed] : [seed, prepared])
  }

  return {
    seed: () => seed,
    prepare,

    commit(next) {
      config = next
      prepared = undefined
      resolver.keep(listHosts(next))
      refresh()
    },

    abandon() {
      prepared = undefined
      if (config !== undefined) resolver.keep(listHosts(config))
      directory.keep([seed])
    },

    figures: () => (config === undefined ? [] : listFigures(config, seed)),

    close() {
      resolver.close()
      checks.close()
    },
  }
}

function listHosts({ upstreams }: Config): string[] {
  return Object.values(upstreams).flatMap(({ targets }) => targets.map((url) => parseOrigin(url).hostname))
}

function listFigures(config: Config, { memory, upstreams }: TargetSeed): UpstreamFigures[] {
  return Object.entries(config.upstreams).map(([name, { targets }]) => {
    const { slot = 0, endpoints = [] } = upstreams.get(name) ?? {}
    const circuit = new HealthCell(memory, slot)
    const { ejections: circuitOpenings, retries, retriesRefused } = circuit.figures
    return {
      name,
      isCircuitOpen: circuit.isOut,
      circuitOpenings,
      retries,
      retriesRefused,
      targets: targets.map((_, position) => {
        const cells = endpoints
          .filter((endpoint) => endpoint.position === position)
          .map((endpoint) => new HealthCell(memory, endpoint.slot))
        return addUp(cells)
      }),
    }
  })
}

function addUp(cells: readonly HealthCell[]): TargetFigures {
  const count = (is: (cell: HealthCell) => boolean) => cells.filter(is).length
  return {
    up: count((cell) => cell.isUp),
    ejected: count((cell) => cell.isOut && !cell.isDown),
    down: count((cell) => cell.isDown),
    ejections: cells.reduce((sum, cell) => sum + cell.figures.ejections, 0),
  }
}
