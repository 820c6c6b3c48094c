import { ENGINE_PAIRS, startGatewayWith } from '../support/proxy-gateway.ts'
import { describeProxy } from './proxy-behaviour.ts'

for (const engines of ENGINE_PAIRS) {
  describeProxy(`${engines.front} front, ${engines.upstream} upstream`, {
    startGateway: startGatewayWith(engines),
  })
}
