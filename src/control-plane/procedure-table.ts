import type { Procedure } from './procedure.ts'
import { CONFIG_PROCEDURES } from './procedures/config.ts'
import { KEY_PROCEDURES } from './procedures/keys.ts'
import { KEYSPACE_PROCEDURES } from './procedures/keyspaces.ts'
import { SERVICE_KEY_PROCEDURES } from './procedures/service-keys.ts'

export const PROCEDURES: readonly Procedure[] = [
  ...KEY_PROCEDURES,
  ...KEYSPACE_PROCEDURES,
  ...SERVICE_KEY_PROCEDURES,
  ...CONFIG_PROCEDURES,
]

export const RPC_PATH_PREFIX = '/v1/'

/** By path; a `Map`, because the path is the client's word. */
export const PROCEDURES_BY_PATH: ReadonlyMap<string, Procedure> = new Map(
  PROCEDURES.map((procedure) => [RPC_PATH_PREFIX + procedure.name, procedure]),
)
