import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { Keyspace } from '../../domain/key.ts'
import type { ServiceKey } from '../../domain/service-key.ts'
import type { Page, PageRequest } from '../../ports/stores.ts'
import {
  fromHex,
  type KeyRow,
  type Row,
  SELECT_KEY,
  toKeyRow,
  toKeyspace,
  toNumber,
  toServiceKey,
} from './rows.ts'

/** Every read of the embedded store, on a connection that cannot write. Synchronous: 5 to 10 µs a key. */
export type KeyReader = ReturnType<typeof createKeyReader>

export function createKeyReader(database: DatabaseSync) {
  const byToken = database.prepare(`${SELECT_KEY} WHERE key.token_hash = ?`)
  const byKid = database.prepare(`${SELECT_KEY} WHERE key.kid = ? AND keyspace.ksid = ?`)
  const pageFrom = (order: 'ASC' | 'DESC') =>
    database.prepare(
      `${SELECT_KEY} WHERE key.seq IN (SELECT seq FROM key WHERE keyspace = ? ORDER BY seq ${order} LIMIT ? OFFSET ?)
       ORDER BY key.seq DESC`,
    )
  const pageFromNewest = pageFrom('DESC')
  const pageFromOldest = pageFrom('ASC')
  const keyspaceByKsid = database.prepare('SELECT * FROM keyspace WHERE ksid = ? AND deleted_at IS NULL')
  const serviceKeyBySkid = database.prepare('SELECT * FROM service_key WHERE skid = ? AND deleted_at IS NULL')
  const serviceKeyByToken = database.prepare(
    'SELECT * FROM service_key WHERE token_hash = ? AND deleted_at IS NULL',
  )
  const policiesOf = database.prepare('SELECT * FROM policy WHERE service_key = ? ORDER BY ksid')

  function findKeyRow(statement: StatementSync, ...params: (string | Uint8Array)[]): KeyRow | undefined {
    const row = statement.get(...params)
    return row === undefined ? undefined : toKeyRow(row)
  }

  function withPolicies(row: Row): ServiceKey {
    return toServiceKey(row, policiesOf.all(toNumber(row['seq'])))
  }

  return {
    findKeyByToken: (tokenHash: string) => findKeyRow(byToken, fromHex(tokenHash)),
    findKey: (ksid: string, kid: string) => findKeyRow(byKid, kid, ksid),

    listKeys(ksid: string, { page, limit }: PageRequest): Page<KeyRow> {
      const keyspace = keyspaceByKsid.get(ksid)
      if (keyspace === undefined) return { items: [], total: 0 }
      const seq = toNumber(keyspace['seq'])
      const total = toNumber(keyspace['key_count'])
      const offset = toOffset(page, limit)
      const count = Math.min(limit, total - offset)
      if (count <= 0) return { items: [], total }
      // SQLite walks over what it skips, so it starts from the nearer end.
      const isNearNewest = offset <= total / 2
      const rows = isNearNewest
        ? pageFromNewest.all(seq, count, offset)
        : pageFromOldest.all(seq, count, total - offset - count)
      return { items: rows.map(toKeyRow), total }
    },

    findKeyspace(ksid: string): Keyspace | undefined {
      const row = keyspaceByKsid.get(ksid)
      return row === undefined ? undefined : toKeyspace(row)
    },

    listKeyspaces({ page, limit }: PageRequest, visible: ReadonlySet<string> | undefined): Page<Keyspace> {
      const only = visible === undefined ? '' : 'AND ksid IN (SELECT value FROM json_each(?))'
      const from = `FROM keyspace WHERE deleted_at IS NULL ${only}`
      const ksids = visible === undefined ? [] : [JSON.stringify([...visible])]
      const total = database.prepare(`SELECT count(*) AS n ${from}`).get(...ksids)?.['n']
      const rows = database
        .prepare(`SELECT * ${from} ORDER BY name, ksid LIMIT ? OFFSET ?`)
        .all(...ksids, limit, toOffset(page, limit))
      return { items: rows.map(toKeyspace), total: toNumber(total) }
    },

    findServiceKey(skid: string): ServiceKey | undefined {
      const row = serviceKeyBySkid.get(skid)
      return row === undefined ? undefined : withPolicies(row)
    },

    findServiceKeyByToken(tokenHash: string): ServiceKey | undefined {
      const row = serviceKeyByToken.get(fromHex(tokenHash))
      return row === undefined ? undefined : withPolicies(row)
    },

    listServiceKeys({ page, limit }: PageRequest): Page<ServiceKey> {
      const total = database
        .prepare('SELECT count(*) AS n FROM service_key WHERE deleted_at IS NULL')
        .get()?.['n']
      const rows = database
        .prepare('SELECT * FROM service_key WHERE deleted_at IS NULL ORDER BY seq LIMIT ? OFFSET ?')
        .all(limit, toOffset(page, limit))
      return { items: rows.map(withPolicies), total: toNumber(total) }
    },

    ping(): void {
      database.prepare('SELECT 1').get()
    },
  }
}

/** Pages are numbers from 1; SQLite offsets are 64-bit. */
function toOffset(page: number, limit: number): number {
  return Math.min((page - 1) * limit, Number.MAX_SAFE_INTEGER)
}
