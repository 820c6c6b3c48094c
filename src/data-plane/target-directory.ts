import type { Config } from '../config/schema.ts'
import { CELLS_MAX, createHealthMemory, HealthCell, type HealthMemory } from './health-cell.ts'
import { parseOrigin } from './upstream/origin.ts'

/*
 * Which cell belongs to which target. Lives on the control thread; a target keeps its cell, and so
 * its health, as long as its upstream, origin and address stay in the configuration.
 */

/** One address of a target. */
export interface Endpoint {
  /** Of the target, in the configuration. */
  readonly position: number
  /** As it stands there. */
  readonly url: string
  readonly address: string
  /** Its cell. */
  readonly slot: number
}

export interface UpstreamEndpoints {
  /** The cell of its circuit. */
  readonly slot: number
  readonly endpoints: readonly Endpoint[]
}

/** What the data-plane threads need to know of all upstreams, by name. Plain data. */
export interface TargetSeed {
  readonly memory: HealthMemory
  readonly upstreams: ReadonlyMap<string, UpstreamEndpoints>
}

/** The addresses of a host name; none while it could not be resolved. */
export type AddressBook = (hostname: string) => readonly string[]

export interface TargetDirectory {
  /** Throws where there are more addresses than cells. */
  list(config: Config, addresses: AddressBook): TargetSeed
  /** Gives back the cells that are in none of these. */
  keep(seeds: readonly TargetSeed[]): void
}

export function createTargetDirectory(): TargetDirectory {
  const memory = createHealthMemory()
  const slots = new Map<string, number>()
  /** First in, first out, so that a late message of a former owner is unlikely to hit the next. */
  const free = Array.from({ length: CELLS_MAX }, (_, slot) => slot)

  function find(key: string): number {
    const known = slots.get(key)
    if (known !== undefined) return known
    const slot = free.shift()
    if (slot === undefined) throw new Error(`upstreams have more than ${CELLS_MAX} addresses of targets`)
    new HealthCell(memory, slot).reset()
    slots.set(key, slot)
    return slot
  }

  return {
    list(config, addresses) {
      const upstreams = new Map<string, UpstreamEndpoints>()
      for (const [name, { targets }] of Object.entries(config.upstreams)) {
        const endpoints = targets.flatMap((url, position) =>
          addresses(parseOrigin(url).hostname).map((address) => ({
            position,
            url,
            address,
            slot: find(JSON.stringify([name, url, address])),
          })),
        )
        upstreams.set(name, { slot: find(JSON.stringify([name])), endpoints })
      }
      return { memory, upstreams }
    },

    keep(seeds) {
      const used = new Set(seeds.flatMap(listSlots))
      for (const [key, slot] of slots) {
        if (used.has(slot)) continue
        slots.delete(key)
        free.push(slot)
      }
    },
  }
}

function listSlots({ upstreams }: TargetSeed): number[] {
  return [...upstreams.values()].flatMap(({ slot, endpoints }) => [
    slot,
    ...endpoints.map((each) => each.slot),
  ])
}
