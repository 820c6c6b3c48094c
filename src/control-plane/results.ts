import { z } from 'zod'

/**
 * What procedures answer. These schemas document and type; answers are not parsed on their way
 * out, but the tests hold every answer against them.
 */

const rfc3339 = z.string().regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z$/)
const count = z.int().min(0)

const rateLimitResult = z.object({ limit: count, refill_rate: count, refill_interval: count })

export const keyResult = z.object({
  kid: z.string(),
  ksid: z.string(),
  token: z.string().optional().describe('Only in the answer that minted it.'),
  created_at: rfc3339,
  last_used: rfc3339.optional().describe('Absent before the first successful check.'),
  ratelimit: rateLimitResult
    .extend({ state: z.object({ remaining: count, last_refilled: rfc3339 }) })
    .optional()
    .describe('The effective limit; absent where there is none.'),
  expires_at: rfc3339.optional().describe('Absent where the key never expires.'),
})

export const keyspaceResult = z.object({
  ksid: z.string(),
  name: z.string(),
  keys_prefix: z.string(),
  ratelimit: rateLimitResult.optional(),
  require_expiration: z.boolean().optional().describe('Absent where it is false.'),
})

const policyResult = z.object({ read: z.boolean(), write: z.boolean() })

export const serviceKeyResult = z.object({
  skid: z.string(),
  description: z.string(),
  admin: z.boolean(),
  keyspaces_policies: z.record(z.string(), policyResult).describe('By ksid; `*` covers every keyspace.'),
  roles: z.array(z.string()),
  created_at: rfc3339.optional().describe('Absent for the root token of the configuration.'),
  token: z.string().optional().describe('Only in the answer that minted it.'),
})

const listResult = z.object({ page: z.int().min(1), limit: z.int().min(1), last_page: z.int().min(1) })

export const keyListResult = z.object({ list: listResult, keys: z.array(keyResult) })
export const keyspaceListResult = z.object({ list: listResult, keyspaces: z.array(keyspaceResult) })
export const serviceKeyListResult = z.object({ list: listResult, service_keys: z.array(serviceKeyResult) })

export const configReloadResult = z.object({
  changed: z.array(z.string()).describe('Names of the settings that differ from before.'),
  restart_needed: z.array(z.string()).describe('Names of changed settings that wait for the next start.'),
})

export const nothing = z.null()

/** Names under which the schemas above appear in the OpenAPI document. */
export const NAMED_RESULTS = {
  RateLimit: rateLimitResult,
  Key: keyResult,
  Keyspace: keyspaceResult,
  Policy: policyResult,
  ServiceKey: serviceKeyResult,
  List: listResult,
  KeyList: keyListResult,
  KeyspaceList: keyspaceListResult,
  ServiceKeyList: serviceKeyListResult,
  ConfigReload: configReloadResult,
  Nothing: nothing,
} as const
