import type { ServerResponse } from 'node:http'
import { type HttpUpstream, startHttpUpstream } from './upstreams.ts'

/** A span as OTLP has it in JSON, with its attributes by name. */
export interface SeenSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly kind: number
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly status?: { readonly code: number }
  readonly attributes: Readonly<Record<string, string>>
}

/** Stands for an OpenTelemetry collector that listens for OTLP over HTTP. */
export interface Collector {
  readonly server: HttpUpstream
  /** `hang` never answers; `cut` ends the connection under one request. */
  behaviour: 'take' | 'fail' | 'hang' | 'cut'
  /** The spans of each request. */
  batches(): SeenSpan[][]
  /** All spans that have arrived so far. */
  spans(): SeenSpan[]
  close(): Promise<void>
}

export const SERVER = 2
export const CLIENT = 3

export async function startCollector(port = 0): Promise<Collector> {
  const answer = (_: unknown, response: ServerResponse): void => {
    if (collector.behaviour === 'hang') return
    if (collector.behaviour === 'cut') {
      collector.behaviour = 'take'
      response.destroy()
      return
    }
    response.statusCode = collector.behaviour === 'fail' ? 500 : 200
    response.end('{}')
  }
  const server = await startHttpUpstream(answer, port)
  const collector: Collector = {
    server,
    behaviour: 'take',
    batches: () => server.seen.map(({ body }) => readSpans(JSON.parse(String(body)))),
    spans: () => collector.batches().flat(),
    close: () => server.close(),
  }
  return collector
}

interface Attribute {
  readonly key: string
  readonly value: { readonly stringValue?: string; readonly intValue?: string }
}

export function toRecord(attributes: readonly Attribute[]): Record<string, string> {
  return Object.fromEntries(
    attributes.map(({ key, value }) => [key, value.stringValue ?? value.intValue ?? '']),
  )
}

function readSpans(body: {
  readonly resourceSpans: readonly {
    readonly scopeSpans: readonly {
      readonly spans: readonly (Omit<SeenSpan, 'attributes'> & { attributes: Attribute[] })[]
    }[]
  }[]
}): SeenSpan[] {
  return body.resourceSpans.flatMap(({ scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map((span) => ({ ...span, attributes: toRecord(span.attributes) })),
    ),
  )
}
