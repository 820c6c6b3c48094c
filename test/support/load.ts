import { Pool } from 'undici'

/** Requests over many keep-alive connections, for tests that count what comes back. */

export interface Sample {
  readonly status: number
  /** `performance.timeOrigin` based, so comparable with the epoch. */
  readonly sentAt: number
  readonly receivedAt: number
}

export interface Load extends AsyncDisposable {
  /** One request; rejects when the connection breaks. */
  send(headers: Readonly<Record<string, string>>, request?: LoadRequest): Promise<Sample>
  /** `count` requests, as many at once as there are connections; the number of answers by status. */
  blast(
    count: number,
    headers: Readonly<Record<string, string>>,
    request?: LoadRequest,
  ): Promise<Map<number, number>>
}

export interface LoadRequest {
  readonly method?: string
  readonly path?: string
  readonly body?: string
}

export function openLoad(origin: string, connections: number): Load {
  const pool = new Pool(origin, { connections, pipelining: 1 })

  async function send(headers: Readonly<Record<string, string>>, request: LoadRequest = {}): Promise<Sample> {
    const sentAt = performance.timeOrigin + performance.now()
    const { statusCode, body } = await pool.request({
      method: request.method ?? 'GET',
      path: request.path ?? '/',
      headers,
      body: request.body ?? null,
    })
    await body.dump()
    return { status: statusCode, sentAt, receivedAt: performance.timeOrigin + performance.now() }
  }

  return {
    send,
    async blast(count, headers, request) {
      const statuses = new Map<number, number>()
      let left = count
      const runner = async () => {
        while (left > 0) {
          left--
          const { status } = await send(headers, request)
          statuses.set(status, (statuses.get(status) ?? 0) + 1)
        }
      }
      await Promise.all(Array.from({ length: connections }, runner))
      return statuses
    },
    [Symbol.asyncDispose]: () => pool.destroy(),
  }
}
