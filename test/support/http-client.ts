import { Agent, type IncomingHttpHeaders, request } from 'node:http'

export interface HttpAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly rawHeaders: readonly string[]
  readonly body: string
}

export interface HttpAsk {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string | string[]>>
  readonly body?: string
  readonly signal?: AbortSignal
  readonly agent?: Agent
}

const pooled = new Agent({ keepAlive: true, maxSockets: 256 })

/** Sends the target as it is; rejects where the answer is broken off. */
export function ask(port: number, target: string, options: HttpAsk = {}): Promise<HttpAnswer> {
  const { method = 'GET', headers = {}, body, signal, agent = pooled } = options
  return new Promise((resolve, reject) => {
    const asked = request(
      { host: '127.0.0.1', port, path: target, method, headers, agent, ...(signal ? { signal } : {}) },
      (answer) => {
        const chunks: Buffer[] = []
        answer.on('data', (chunk: Buffer) => chunks.push(chunk))
        answer.on('error', reject)
        answer.on('end', () =>
          resolve({
            status: answer.statusCode ?? 0,
            headers: answer.headers,
            rawHeaders: answer.rawHeaders,
            body: Buffer.concat(chunks).toString('latin1'),
          }),
        )
      },
    )
    asked.on('error', reject)
    asked.end(body)
  })
}
