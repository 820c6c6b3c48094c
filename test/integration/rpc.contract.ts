import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type AdminUnderTest,
  createRpcClient,
  createTestKeyspace,
  type RpcClient,
  type StartAdmin,
} from '../support/rpc-client.ts'
import { describeKeys } from './rpc-keys.contract.ts'
import { describeKeyspaces } from './rpc-keyspaces.contract.ts'
import { describeProtocol } from './rpc-protocol.contract.ts'
import { describeServiceKeys } from './rpc-service-keys.contract.ts'

/**
 * The management RPC as contract section 5 has it, over HTTP alone: it can be run against an
 * in-process listener or a whole gateway.
 */
export function describeRpc(name: string, startAdmin: StartAdmin): void {
  describe(`management RPC: ${name}`, () => {
    let listener: AdminUnderTest
    let client: RpcClient
    beforeAll(async () => {
      listener = await startAdmin()
      client = createRpcClient(listener.origin, listener.rootToken)
    })
    afterAll(() => listener?.close())

    describeProtocol(() => client)
    describeKeys(() => client)
    describeKeyspaces(() => client)
    describeServiceKeys(() => client)

    it('demands an expiry of every key where the configuration says so', async () => {
      const strict = await startAdmin({ requireExpiration: true })
      try {
        const admin = createRpcClient(strict.origin, strict.rootToken)
        const ksid = await createTestKeyspace(admin)
        const answer = await admin.call('keys.create', { ksid })
        expect(answer).toMatchObject({ status: 460, body: { error: 'invalid expiration' } })
        const { kid } = await admin.ok('keys.create', { ksid, expires_in: 60_000 })
        expect((await admin.call('keys.update', { ksid, kid, expires_at: null })).status).toBe(460)
      } finally {
        await strict.close()
      }
    })
  })
}
