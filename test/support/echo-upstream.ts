import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/** What the upstream received, as it answers it. */
export interface Echo {
  readonly method: string
  /** As it stood in the request line. */
  readonly target: string
  readonly httpVersion: string
  /** Names and values by turns, as they were sent. */
  readonly rawHeaders: readonly string[]
  readonly bodyBytes: number
}

export interface EchoUpstream extends AsyncDisposable {
  readonly url: string
  /** Requests that have arrived, whether or not they have been answered. */
  readonly received: () => number
  close(): Promise<void>
}

/** A real server that answers 200 and, as JSON, what it received. */
export async function startEchoUpstream(): Promise<EchoUpstream> {
  let received = 0
  const server = createServer((request, response) => {
    received += 1
    let bodyBytes = 0
    request.on('data', (chunk: Buffer) => {
      bodyBytes += chunk.length
    })
    request.on('end', () => {
      const { method = '', url = '', httpVersion, rawHeaders } = request
      const echo: Echo = { method, target: url, httpVersion, rawHeaders, bodyBytes }
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify(echo))
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo

  const close = async (): Promise<void> => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  return { url: `http://127.0.0.1:${port}`, received: () => received, close, [Symbol.asyncDispose]: close }
}
