import type { z } from 'zod'
import type { Management } from '../app/management.ts'
import { RpcError, type RpcErrorCode } from '../domain/errors.ts'
import { type Action, may, type ServiceKey } from '../domain/service-key.ts'

/** Who makes a call, and with which token. */
export interface Caller {
  readonly serviceKey: ServiceKey
  readonly tokenHash: string
}

export interface Access<P> {
  /** One sentence for the documentation. */
  readonly needs: string
  /** May throw an `RpcError` where the refusal is not `unauthorized`. */
  allows(caller: Caller, params: P): boolean
}

/** What a procedure's author writes; types follow from the two schemas. */
export interface ProcedureDefinition<P extends z.ZodType, R extends z.ZodType> {
  /** `namespace.action`, as in the path. */
  readonly name: string
  readonly summary: string
  readonly access: Access<z.output<P>>
  readonly params: P
  readonly result: R
  /** What it can answer besides the errors that all procedures share. */
  readonly errors: readonly RpcErrorCode[]
  /** `writes`: each call is worth a line in the log. `ignored`: the request body is never looked at. */
  readonly traits?: { readonly writes?: boolean; readonly body?: 'ignored' }
  readonly example: { readonly params: z.input<P>; readonly result: z.output<R> }
  handle(deps: Management, params: z.output<P>, caller: Caller): Promise<z.output<R>>
}

/** A procedure without its type parameters, so that all of them fit one table. */
export interface Procedure {
  readonly name: string
  readonly summary: string
  readonly needs: string
  readonly params: z.ZodType
  readonly result: z.ZodType
  readonly errors: readonly RpcErrorCode[]
  readonly writes: boolean
  readonly isBodyIgnored: boolean
  readonly example: { readonly params: unknown; readonly result: unknown }
  /** Fails with `invalid_payload`. */
  validate(body: unknown): ValidCall
}

/** A call whose parameters are known to be good. */
export interface ValidCall {
  isAllowed(caller: Caller): boolean
  run(deps: Management, caller: Caller): Promise<unknown>
}

export function defineProcedure<P extends z.ZodType, R extends z.ZodType>(
  definition: ProcedureDefinition<P, R>,
): Procedure {
  const { name, summary, access, params, result, errors, example, traits } = definition
  return {
    name,
    summary,
    needs: access.needs,
    params,
    result,
    errors,
    writes: traits?.writes === true,
    isBodyIgnored: traits?.body === 'ignored',
    example,
    validate(body) {
      const parsed = params.safeParse(body)
      if (!parsed.success) throw toInvalidPayload(parsed.error.issues)
      return {
        isAllowed: (caller) => access.allows(caller, parsed.data),
        run: (deps, caller) => definition.handle(deps, parsed.data, caller),
      }
    },
  }
}

export const ANY_SERVICE_KEY: Access<unknown> = {
  needs: 'any service key',
  allows: () => true,
}

export const ADMIN_ONLY: Access<unknown> = {
  needs: 'a service key with `admin`',
  allows: ({ serviceKey }) => serviceKey.admin,
}

/** Says no more about a keyspace that is not there than about one that is somebody else's. */
export function needsPolicy(action: Action): Access<{ readonly ksid: string }> {
  return {
    needs: `a service key with the policy \`${action}\` on the keyspace`,
    allows: ({ serviceKey }, { ksid }) => may(serviceKey, action, ksid),
  }
}

const DETAILS_MAX = 20
const SEGMENT_LENGTH_MAX = 64
/** Maps by id: what stands below is the caller's word, not a parameter's name. */
const MAPS = new Set(['keyspaces_policies'])
const POLICY_FIELDS = new Set(['read', 'write'])

function toInvalidPayload(issues: readonly z.core.$ZodIssue[]): RpcError {
  const fields = new Set<string>()
  const details: string[] = []
  for (const { path, message } of issues) {
    const leaf = toLeafName(path)
    if (leaf !== undefined) fields.add(leaf)
    if (details.length < DETAILS_MAX) details.push(`${toPathText(path)} ${message}`)
  }
  return new RpcError('invalid_payload', { invalidFields: [...fields], details })
}

function toLeafName(path: readonly PropertyKey[]): string | undefined {
  const [first] = path
  const names = path.filter((segment) => typeof segment === 'string')
  const last = names.at(-1)
  if (typeof first !== 'string' || !MAPS.has(first)) return last
  return names.length > 2 && last !== undefined && POLICY_FIELDS.has(last) ? last : first
}

function toPathText(path: readonly PropertyKey[]): string {
  if (path.length === 0) return 'the body'
  return path.map((segment) => String(segment).slice(0, SEGMENT_LENGTH_MAX)).join('.')
}
