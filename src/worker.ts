import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { createCheckKey } from './app/check-key.ts'
import { hashByteString } from './app/tokens.ts'
import type { Config } from './config/schema.ts'
import { compileTrustedProxies } from './data-plane/client-address.ts'
import type { Plan } from './data-plane/exchange.ts'
import { openFront } from './data-plane/front/node-http.ts'
import { createPipeline } from './data-plane/pipeline.ts'
import { compileRoutes } from './data-plane/route-table.ts'
import { createUpstreams } from './data-plane/upstream-pool.ts'
import { RecordCache } from './stores/embedded/record-cache.ts'
import { SharedTable } from './stores/embedded/shared-table.ts'
import { type AccessLog, openAccessLog } from './telemetry/access-log.ts'
import { createLogger } from './telemetry/logger.ts'
import { createRecorder } from './telemetry/recorder.ts'
import { createSystemClock } from './telemetry/system-clock.ts'
import type { FromThread, ThreadStart, ToThread } from './thread-messages.ts'

/** Composition root of one data-plane thread: config → pipeline → listener. */

if (parentPort !== null) await runThread(parentPort, workerData as ThreadStart)

async function runThread(port: NonNullable<typeof parentPort>, start: ThreadStart): Promise<void> {
  const { listen, config } = start
  const post = (message: FromThread) => port.postMessage(message)
  const logger = createLogger({ thread: `data-plane-${start.index + 1}` })
  const clock = createSystemClock(start.clock)
  const records = new RecordCache({
    keysMax: config.store.cache_keys,
    unknownMax: config.store.cache_unknown,
    post,
  })
  let accessLog = openLog(config)
  let plan = compilePlan(config)
  const recorder = createRecorder({
    counters: start.counters,
    threadIndex: start.index,
    names: start.names,
    accessLog,
  })
  const pipeline = createPipeline(
    {
      checkKey: createCheckKey({ records, buckets: new SharedTable(start.table), clock }),
      // The buckets of the embedded store are this node's own; there are no others to fall back on.
      checkLocally: undefined,
      hashToken: hashByteString,
      recorder,
      clock,
      createRequestId: randomUUID,
      logger,
    },
    plan,
  )

  port.on('message', (message: ToThread) => {
    switch (message.kind) {
      case 'found':
      case 'find-failed':
      case 'quiesce':
        return records.receive(message)
      case 'reload':
        return post({ kind: 'reloaded', id: message.id, problem: tryReload(message) })
      case 'close':
        return void close(message.graceMs)
    }
  })

  const { gateway } = config
  const front = await openFront({
    handler: pipeline,
    ...listen,
    tls: gateway.tls && { cert: readFileSync(gateway.tls.cert), key: readFileSync(gateway.tls.key) },
    headLimits: plan.headLimits,
    headerBytesMax: gateway.max_header_bytes,
    headersTimeoutMs: gateway.timeouts.headers,
    idleTimeoutMs: gateway.timeouts.idle,
    bodyTimeoutMs: gateway.timeouts.body,
    onConnections: recorder.addConnections,
  }).catch((error: unknown) => {
    post({ kind: 'listen-failed', message: toText(error) })
    return undefined
  })
  if (front !== undefined) post({ kind: 'listening', port: front.address.port })

  /** Gives what is wrong with the new configuration, which is then not used. */
  function tryReload(message: Extract<ToThread, { kind: 'reload' }>): string | undefined {
    try {
      const nextLog = openLog(message.config)
      const before = { plan, accessLog }
      plan = compilePlan(message.config)
      accessLog = nextLog
      recorder.setNames(message.names)
      recorder.setAccessLog(accessLog)
      pipeline.replace(plan)
      before.accessLog?.close()
      void before.plan.upstreams.close()
      return undefined
    } catch (error) {
      return toText(error)
    }
  }

  async function close(graceMs: number): Promise<void> {
    await front?.close(graceMs)
    await Promise.race([plan.upstreams.close(), new Promise((resolve) => setTimeout(resolve, 200))])
    records.close()
    accessLog?.close()
    logger.flush()
    post({ kind: 'closed' })
    port.close()
  }
}

function openLog(config: Config): AccessLog | undefined {
  const { output } = config.gateway.access_log
  if (output === 'off') return undefined
  try {
    return openAccessLog(output)
  } catch (cause) {
    throw new Error(`gateway.access_log.output ${output} cannot be opened: ${toText(cause)}`, { cause })
  }
}

function compilePlan(config: Config): Plan {
  const { trusted_proxies, max_headers, max_target_bytes } = config.gateway
  return {
    routes: compileRoutes(config),
    upstreams: createUpstreams(config),
    trustedProxies: compileTrustedProxies(trusted_proxies),
    headLimits: { headersMax: max_headers, targetBytesMax: max_target_bytes },
  }
}

function toText(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
