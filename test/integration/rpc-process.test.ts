import { ROOT_TOKEN, startGateway } from '../support/gateway.ts'
import { describeRpc } from './rpc.contract.ts'

describeRpc('a whole gateway with the embedded store', async ({ requireExpiration = false } = {}) => {
  const gateway = await startGateway({
    config: {
      gateway: { listen: '127.0.0.1:0', workers: 1 },
      admin: { require_expiration: requireExpiration },
      upstreams: { none: { targets: ['http://127.0.0.1:9'] } },
      routes: [{ upstream: 'none' }],
    },
  })
  return { origin: gateway.adminUrl, rootToken: ROOT_TOKEN, close: () => gateway.stop() }
})
