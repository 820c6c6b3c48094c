import type { Config } from '../config/schema.ts'

/** `raw`: our own framing on plain sockets; `node`: node:http and undici. */
export type Engine = 'node' | 'raw'

/** Which implementation faces the clients, and which the upstreams. */
export interface Engines {
  readonly front: Engine
  readonly upstream: Engine
}

export function chooseEngines({ gateway }: Pick<Config, 'gateway'>): Engines {
  const engine = gateway.engine === 'auto' ? 'raw' : gateway.engine
  return { front: engine, upstream: engine }
}
