import { readFileSync } from 'node:fs'

/**
 * Every key in Redis, under the prefix of `store.redis.prefix` (`dripgate:`). Whatever stands in
 * braces is the hash tag: in a cluster, keys with one tag live on one node, and a script may touch
 * no others.
 *
 *   {m}:layout             "1": the version of this page; a gateway of another one does not start
 *   {m}:clock              last instant given to a changed limit, ms; strictly growing
 *   {m}:seq                last number given to a keyspace, key or service key
 *   {m}:keyspace:KSID      JSON of a keyspace
 *   {m}:keyspaces          ZSET, score 0: "NAME\0KSID", so in order of names
 *   {m}:names {m}:prefixes HASH: name or prefix of a keyspace → ksid
 *   {m}:keys:NUMBER        ZSET: key number → kid, of the keyspace with that number
 *   {m}:key:KID            JSON of a key, its token's hash included
 *   {m}:expiring           ZSET: instant at which an expired key is swept → kid
 *   {m}:dead               LIST: numbers of deleted keyspaces whose keys are still to be removed
 *   {m}:service:SKID       JSON of a service key; "" once it was deleted
 *   {m}:services           ZSET: number → skid
 *   {m}:service-tokens     HASH: token hash → skid
 *   {m}:threads            ZSET: instant of the last sign of life → data-plane thread
 *   calls:SKID             LIST: instants of the calls of the script API that were let through, ms
 *   {m}:purges             ZSET: number of the last purge → mark, of 65,538, see purge-sync.ts
 *   {m}:purge-era {m}:purge-seq {m}:purge-reset   which run of numbers, the last one, a gap before it
 *   {m}:cache-nodes        ZSET: end of its lease → node that may give cached answers
 *   {m}:cache-acks         HASH: node → era and number up to which it has applied all purges
 *   {cXX}:NAME             a cached answer: how long it was to be kept, then see entry-codec.ts
 *   {tN}:SHA256            JSON of a key as the data plane needs it; N = last hex digit of the hash
 *   {bN}:KID               bucket, see buckets.lua; N = hash of the kid modulo 16
 *   {bN}:used              HASH: kid → instant of the last successful check
 *   purges                 channel: there is something new in {m}:purges
 *   changes                channel: what threads must forget, see invalidation.ts
 */
export const LAYOUT_VERSION = 1
const SHARDS = 16

export interface Layout {
  readonly prefix: string
  readonly channel: string
  /** A key of the management data, which all has one tag. */
  meta(name: string): string
  token(tokenHash: string): string
  bucket(shard: number, kid: string): string
  used(shard: number): string
  callWindow(skid: string): string
}

export function createLayout(prefix: string): Layout {
  const buckets = Array.from({ length: SHARDS }, (_, shard) => `${prefix}{b${shard}}:`)
  return {
    prefix,
    channel: `${prefix}changes`,
    meta: (name) => `${prefix}{m}:${name}`,
    token: (tokenHash) => `${prefix}{t${Number.parseInt(tokenHash.slice(-1), 16)}}:${tokenHash}`,
    bucket: (shard, kid) => `${buckets[shard]}${kid}`,
    used: (shard) => `${buckets[shard]}used`,
    callWindow: (skid) => `${prefix}calls:${skid}`,
  }
}

/** Which of the 16 shards holds a key's bucket: FNV-1a of the kid. Part of the layout. */
export function shardOf(kid: string): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < kid.length; index++) {
    hash = Math.imul(hash ^ kid.charCodeAt(index), 0x01000193)
  }
  return (hash ^ (hash >>> 16)) & (SHARDS - 1)
}

/** The text of a script that lies beside this file. */
export function readScript(name: string): string {
  return readFileSync(new URL(`./${name}`, import.meta.url), 'utf8')
}
