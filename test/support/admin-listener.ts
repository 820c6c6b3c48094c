import { randomBytes } from 'node:crypto'
import { createCheckKey } from '../../src/app/check-key.ts'
import {
  type AdminListener,
  type AdminListenerDeps,
  type AdminSettings,
  openAdminListener,
} from '../../src/control-plane/listener.ts'
import type { CachePurger } from '../../src/ports/purge.ts'
import type { Clock } from '../../src/ports/runtime.ts'
import { createCallWindow } from '../../src/stores/embedded/call-window.ts'
import { createFakeLogger } from './fakes.ts'
import { createMemoryCache } from './memory-cache.ts'
import { createMemoryStore, type MemoryStore } from './memory-key-store.ts'
import { createRpcClient, type RpcClient } from './rpc-client.ts'

export const ROOT_TOKEN = 'root-token-of-the-tests'

export interface TestAdmin extends AdminListener {
  readonly origin: string
  readonly client: RpcClient
  readonly store: MemoryStore
  readonly logger: ReturnType<typeof createFakeLogger>
  /** What the configuration says; change it to reload. */
  settings: AdminSettings
}

const systemClock: Clock = { bucketMs: () => Date.now(), wallMs: () => Date.now() }

/** Where nothing is cached a purge is done at once. */
const NO_CACHE: CachePurger = { purge: async () => ({ kind: 'done', acknowledged: 1 }) }

/** The admin listener over the store in memory, on a port of its own. */
export async function openTestAdmin(
  more: Partial<AdminListenerDeps> & { readonly settings?: Partial<AdminSettings> } = {},
): Promise<TestAdmin> {
  const { settings: given, ...overrides } = more
  const clock = more.clock ?? systemClock
  const store = createMemoryStore(clock)
  const logger = createFakeLogger()
  const settings: AdminSettings = {
    listen: { host: '127.0.0.1', port: 0 },
    root_token: ROOT_TOKEN,
    require_expiration: false,
    script: { limit: 60, namespaces: ['*'] },
    ...given,
  }
  const state = { settings }
  const listener = await openAdminListener({
    config: () => ({ admin: state.settings }),
    keyStore: store,
    script: { cacheStore: createMemoryCache(), callWindow: createCallWindow(clock), purger: NO_CACHE },
    reservedPrefixes: ['dripgate:', 'mine:'],
    checkKey: createCheckKey({ records: store, buckets: store, clock }),
    clock,
    random: { bytes: (n) => randomBytes(n) },
    logger,
    metrics: {
      render: async (accept = '') => ({ contentType: 'text/plain', body: `up 1 ${accept}\n` }),
      countAdminRequest: () => {},
      countScriptCall: () => {},
    },
    readiness: async () => ({ ready: true, checks: { listeners: 'ok' } }),
    reload: async () => ({ kind: 'done', changed: [], restartNeeded: [] }),
    version: '0.0.0-test',
    ...overrides,
  })
  const origin = `http://127.0.0.1:${listener.address.port}`
  const client = createRpcClient(origin, ROOT_TOKEN)
  return Object.assign(state, { ...listener, origin, client, store, logger })
}
