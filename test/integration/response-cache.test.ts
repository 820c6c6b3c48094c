import { ENGINE_PAIRS, startGatewayWith } from '../support/proxy-gateway.ts'
import { describeCache } from './response-cache.ts'
import { describeCacheFetching } from './response-cache-fetching.ts'
import { describeCacheIsolation } from './response-cache-isolation.ts'

for (const engines of ENGINE_PAIRS) {
  const name = `${engines.front} front, ${engines.upstream} upstream`
  const startGateway = startGatewayWith(engines)
  describeCache(name, startGateway)
  describeCacheFetching(name, startGateway)
  describeCacheIsolation(name, startGateway)
}
