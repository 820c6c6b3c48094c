import type { Config } from '../config/schema.ts'
import type { Logger } from '../ports/runtime.ts'
import { HealthCell } from './health-cell.ts'
import type { Endpoint, TargetSeed } from './target-directory.ts'
import { type ProbeRule, sendProbe } from './upstream/health-probe.ts'
import { sendHttp2Probe } from './upstream/http2-probe.ts'
import type { Origin } from './upstream/origin.ts'
import { readOrigins } from './upstream-pool.ts'

type CheckConfig = NonNullable<Config['upstreams'][string]['health_check']>

/** The active checks of all targets. Lives on the control thread; what it finds is in the cells. */
export interface HealthChecks {
  /** Checks these from now on. What was checked in the same way goes on undisturbed. */
  follow(config: Config, seed: TargetSeed): void
  close(): void
}

export function createHealthChecks(logger: Logger): HealthChecks {
  let checks = new Map<string, Check>()

  return {
    follow(config, seed) {
      const next = new Map<string, Check>()
      for (const [name, entry] of Object.entries(config.upstreams)) {
        const rule = entry.health_check
        const endpoints = seed.upstreams.get(name)?.endpoints ?? []
        if (rule === undefined) {
          for (const { slot } of endpoints) new HealthCell(seed.memory, slot).setDown(false)
          continue
        }
        const origins = readOrigins(entry)
        for (const endpoint of endpoints) {
          const origin = origins[endpoint.position]
          if (origin === undefined) continue
          const key = JSON.stringify([name, endpoint, rule, origin])
          const cell = new HealthCell(seed.memory, endpoint.slot)
          const labels = {
            upstream: name,
            target: endpoint.position,
            host: origin.authority,
            address: endpoint.address,
          }
          next.set(
            key,
            checks.get(key) ??
              new Check({ ...origin, address: endpoint.address }, rule, cell, logger, labels),
          )
        }
      }
      for (const [key, check] of checks) if (!next.has(key)) check.stop()
      checks = next
    },

    close() {
      for (const check of checks.values()) check.stop()
      checks.clear()
    },
  }
}

/** Checks one address of a target again and again; a check begins when the one before has ended. */
class Check {
  readonly #origin: Origin
  readonly #rule: CheckConfig
  readonly #probe: ProbeRule
  readonly #cell: HealthCell
  readonly #logger: Logger
  readonly #labels: Pick<Endpoint, 'address'> & Readonly<Record<string, unknown>>
  /** Bad outcomes in a row while it is up, good ones while it is down. */
  #against = 0
  #isFirst = true
  #timer: NodeJS.Timeout | undefined
  #cancel: (() => void) | undefined

  constructor(
    origin: Origin,
    rule: CheckConfig,
    cell: HealthCell,
    logger: Logger,
    labels: Pick<Endpoint, 'address'> & Readonly<Record<string, unknown>>,
  ) {
    this.#origin = origin
    this.#rule = rule
    this.#probe = {
      path: rule.path,
      host: rule.host,
      timeoutMs: rule.timeout,
      isGood: (status) => isExpected(rule.status, status),
    }
    this.#cell = cell
    this.#logger = logger
    this.#labels = labels
    this.#run()
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#cancel?.()
  }

  #run(): void {
    const startedMs = performance.now()
    const send = this.#origin.isHttp2 ? sendHttp2Probe : sendProbe
    this.#cancel = send(this.#origin, this.#probe, (cause) => {
      this.#judge(cause)
      // A little less than the interval, by chance, so that many checks do not fall into step.
      const waitMs = this.#rule.interval * (1 - Math.random() / 10) - (performance.now() - startedMs)
      this.#timer = setTimeout(() => this.#run(), Math.max(waitMs, 1))
    })
  }

  #judge(cause: string | undefined): void {
    const cell = this.#cell
    const isFirst = this.#isFirst
    this.#isFirst = false
    if ((cause === undefined) !== cell.isDown) {
      const hadFailed = this.#against > 0
      this.#against = 0
      // Good again, and what ejected it is what a check can see.
      if (cause === undefined && (hadFailed || cell.isOutUnreachable) && cell.isOut && cell.restore()) {
        this.#logger.info('target is back', this.#labels)
      }
      return
    }
    this.#against++
    const { healthy_after, unhealthy_after } = this.#rule
    if (!isFirst && this.#against < (cell.isDown ? healthy_after : unhealthy_after)) return
    this.#against = 0
    if (cause === undefined) {
      cell.setDown(false)
      cell.restore()
      this.#logger.info('target is up', this.#labels)
    } else if (cell.setDown(true)) {
      this.#logger.warn('target is down', { ...this.#labels, cause })
    }
  }
}

/** `expected`: numbers, and classes such as `2xx`. */
function isExpected(expected: CheckConfig['status'], status: number): boolean {
  const family = `${Math.trunc(status / 100)}xx`
  return expected.some((each) => each === status || each === family)
}
