import { openTestAdmin, ROOT_TOKEN } from '../support/admin-listener.ts'
import { describeRpc } from './rpc.contract.ts'

describeRpc('over the store in memory', async (options = {}) => {
  const admin = await openTestAdmin({ settings: { require_expiration: options.requireExpiration === true } })
  return { origin: admin.origin, rootToken: ROOT_TOKEN, close: () => admin.close() }
})
