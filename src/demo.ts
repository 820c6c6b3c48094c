import { createServer, type Server } from 'node:http'
import { fileURLToPath } from 'node:url'
import { createKey } from './app/keys.ts'
import { mintToken } from './app/tokens.ts'
import type { Config } from './config/schema.ts'
import type { Gateway } from './gateway.ts'
import { systemRandom } from './telemetry/system-clock.ts'

/** `dripgate demo`: the gateway before an upstream of its own, with a key to try it with. */

const DEMO_CONFIG = fileURLToPath(new URL('../config/demo.yaml', import.meta.url))
const DEMO_KEYSPACE = 'ks_demo'

export async function runDemo(deps: {
  readonly start: (file: string) => Promise<{ readonly gateway: Gateway; readonly config: Config }>
  readonly print: (text: string) => void
}): Promise<{ readonly gateway: Gateway; readonly upstream: Server }> {
  const upstream = await startDemoUpstream()
  process.env['DRIPGATE_DEMO_UPSTREAM'] = toUpstreamUrl(upstream)
  process.env['DRIPGATE_ROOT_TOKEN'] ||= mintToken('root_', systemRandom)
  try {
    const { gateway, config } = await deps.start(DEMO_CONFIG)
    const { token } = await createKey(
      { ...gateway, random: systemRandom, isExpirationRequired: () => false },
      { ksid: DEMO_KEYSPACE, expiration: { at: undefined, inMs: 0 }, ownLimit: undefined },
    )
    deps.print(describe(gateway, { token: token ?? '', rootToken: config.admin.root_token ?? '' }))
    return { gateway, upstream }
  } catch (error) {
    upstream.close()
    throw error
  }
}

function describe(
  gateway: Gateway,
  { token, rootToken }: { readonly token: string; readonly rootToken: string },
): string {
  const { gatewayUrl, adminUrl } = gateway
  return `
Dripgate is running.

  gateway   ${gatewayUrl}    clients call this
  admin     ${adminUrl}    management RPC, /metrics, /readyz, /openapi.json
  demo key  ${token}
            5 requests at once, then one more every 2 seconds

Eight requests, of which the last ones get a 429:

  for i in 1 2 3 4 5 6 7 8; do curl -s -o /dev/null -w '%{http_code}\\n' -H 'Authorization: Bearer ${token}' ${gatewayUrl}/hello; done

One request with everything that comes with it, a route that needs no key, and a new key:

  curl -i -H 'Authorization: Bearer ${token}' ${gatewayUrl}/hello
  curl -i ${gatewayUrl}/open
  curl -s -H 'Authorization: Bearer ${rootToken}' -H 'Content-Type: application/json' -d '{"ksid":"${DEMO_KEYSPACE}"}' ${adminUrl}/v1/keys.create

Ctrl-C stops it.
`
}

/** Answers every request with what it received. */
function startDemoUpstream(): Promise<Server> {
  const server = createServer((request, response) => {
    request.resume()
    const body = `${JSON.stringify({ hello: 'from the demo upstream', method: request.method, url: request.url, headers: request.headers }, null, 2)}\n`
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) })
    response.end(body)
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => resolve(server))
  })
}

function toUpstreamUrl(server: Server): string {
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('the demo upstream has no port')
  return `http://127.0.0.1:${address.port}`
}
