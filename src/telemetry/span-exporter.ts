import http from 'node:http'
import https from 'node:https'
import { errorText } from '../domain/errors.ts'
import { isSampled } from '../domain/traceparent.ts'
import type { FinishedExchange, Logger } from '../ports/runtime.ts'
import { countSpans, encodeSpans, wrapSpans } from './spans.ts'

/** Sends the spans of one data-plane thread to a collector: OTLP over HTTP, in JSON. */
export interface SpanExporter {
  /** Never waits and never throws; what cannot be kept or sent is dropped and counted. */
  export(exchange: FinishedExchange): void
  /** Sends what waits, for a second at most; the rest is dropped. Nothing is taken any more. */
  close(): Promise<void>
}

export interface SpanExporterOptions {
  readonly endpoint: string
  readonly headers: Readonly<Record<string, string>>
  readonly timeoutMs: number
  /** Of the gateway. */
  readonly version: string
  readonly createSpanId: () => string
  readonly onSpans: (outcome: 'sent' | 'dropped', spans: number) => void
  readonly logger: Logger
}

/** Spans that wait for a slow collector; later ones are dropped. */
const QUEUE_MAX = 4096
const BATCH_MAX = 512
const FLUSH_AFTER_MS = 1000
const CLOSE_WITHIN_MS = 1000
const WARN_INTERVAL_MS = 60_000
const STOPPED = 'the gateway has stopped'

/** One batch at a time is on its way. A batch that fails is not sent again. */
export function openSpanExporter(options: SpanExporterOptions): SpanExporter {
  const { createSpanId, onSpans, logger, endpoint } = options
  const collector = openCollector(options)
  const queue: string[] = []
  let timer: NodeJS.Timeout | undefined
  /** Present while a batch is on its way, or about to be. */
  let sending: Promise<void> | undefined
  let isClosed = false
  let warnedAtMs = Number.NEGATIVE_INFINITY

  return {
    export(exchange) {
      const { traceparent } = exchange
      if (traceparent === undefined || traceparent === '' || !isSampled(traceparent)) return
      const count = countSpans(exchange)
      if (isClosed || queue.length + count > QUEUE_MAX) {
        drop(count, 'more spans than the collector takes')
        return
      }
      for (const span of encodeSpans(exchange, traceparent, createSpanId)) queue.push(span)
      schedule()
    },

    async close() {
      isClosed = true
      clearTimeout(timer)
      const late = setTimeout(collector.abandon, CLOSE_WITHIN_MS)
      while (sending !== undefined || (queue.length > 0 && !collector.isAbandoned())) {
        await (sending ?? sendBatch())
      }
      clearTimeout(late)
      collector.abandon()
      if (queue.length > 0) drop(queue.length, STOPPED)
      queue.length = 0
    },
  }

  function schedule(): void {
    if (sending !== undefined || isClosed) return
    if (queue.length >= BATCH_MAX) flush()
    else if (queue.length > 0) wait()
  }

  function wait(): void {
    timer ??= setTimeout(flush, FLUSH_AFTER_MS).unref()
  }

  function flush(): void {
    clearTimeout(timer)
    timer = undefined
    // Later than whoever has filled the batch: it is a request.
    sending = new Promise<void>((resolve) => setImmediate(resolve)).then(sendBatch).then((isTaken) => {
      sending = undefined
      // A collector in trouble is left alone for a while.
      if (isTaken) schedule()
      else if (!isClosed && queue.length > 0) wait()
    })
  }

  /** Whether the collector has taken it. */
  async function sendBatch(): Promise<boolean> {
    const batch = queue.splice(0, BATCH_MAX)
    try {
      await collector.post(wrapSpans(batch, options.version))
      onSpans('sent', batch.length)
      return true
    } catch (error) {
      drop(batch.length, errorText(error))
      return false
    }
  }

  function drop(spans: number, cause: string): void {
    onSpans('dropped', spans)
    const nowMs = performance.now()
    if (nowMs - warnedAtMs < WARN_INTERVAL_MS) return
    warnedAtMs = nowMs
    logger.warn('spans were dropped', { endpoint, cause })
  }
}

/** One connection, kept open between batches. */
function openCollector({ endpoint, headers, timeoutMs }: SpanExporterOptions) {
  const { Agent, request: open } = endpoint.startsWith('https:') ? https : http
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  let current: http.ClientRequest | undefined
  let abandoned = false
  return { post, abandon, isAbandoned: () => abandoned }

  /** Rejects unless the answer is a 2xx, whole and in time. */
  function post(body: Buffer): Promise<void> {
    if (abandoned) return Promise.reject(new Error(STOPPED))
    return new Promise((resolve, reject) => {
      const fields = { ...headers, 'content-type': 'application/json', 'content-length': body.length }
      const request = open(endpoint, { method: 'POST', agent, headers: fields })
      current = request
      const late = setTimeout(() => {
        request.destroy(new Error(`the collector has not answered within ${timeoutMs} ms`))
      }, timeoutMs)
      let isAnswered = false
      let isRepeated = false
      request.on('response', (response) => {
        isAnswered = true
        const { statusCode = 0 } = response
        response.on('error', reject)
        response.on('end', () => {
          if (statusCode >= 200 && statusCode < 300) resolve()
          else reject(new Error(`the collector has answered ${statusCode}`))
        })
        response.resume()
      })
      request.on('error', (error: NodeJS.ErrnoException) => {
        // The collector closed a kept connection just then. If it took the batch, it knows the ids.
        isRepeated = request.reusedSocket && !isAnswered && error.code === 'ECONNRESET'
        if (isRepeated) post(body).then(resolve, reject)
        else reject(error)
      })
      request.on('close', () => {
        clearTimeout(late)
        if (!isRepeated) reject(new Error('the collector has broken off its answer'))
      })
      request.end(body)
    })
  }

  function abandon(): void {
    abandoned = true
    current?.destroy(new Error(STOPPED))
    agent.destroy()
  }
}
