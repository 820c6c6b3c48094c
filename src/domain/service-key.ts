export interface Policy {
  readonly read: boolean
  readonly write: boolean
}

/** How roles are written; what they allow is the business of whoever asks for one. */
export const ROLE_NAME = /^[A-Z_]{1,32}$/

/** A credential of the admin listener. */
export interface ServiceKey {
  readonly skid: string
  readonly description: string
  readonly admin: boolean
  /** By ksid; `"*"` covers every keyspace. */
  readonly policies: ReadonlyMap<string, Policy>
  /** For example `SCRIPT`. Being an admin gives no role. */
  readonly roles: readonly string[]
  readonly createdAtMs: number
}

export type Action = keyof Policy

/** Whether a service key may read or write in a keyspace (contract section 5, point 13). */
export function may(serviceKey: ServiceKey, action: Action, ksid: string): boolean {
  if (serviceKey.admin) return true
  const allows = (policy: Policy | undefined) => policy?.[action] === true
  return allows(serviceKey.policies.get(ksid)) || allows(serviceKey.policies.get('*'))
}
