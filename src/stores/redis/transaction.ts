import { type Argument, type Connection, toScript } from './connection.ts'

/**
 * One atomic step on the management data: conditions, then writes, which are only made where every
 * condition holds. All keys have the same hash tag.
 */
export interface Transaction {
  readonly checks: readonly Check[]
  readonly writes: readonly Write[]
}

export type Check =
  /** The key holds exactly this text. */
  | { readonly kind: 'is'; readonly key: string; readonly text: string }
  | { readonly kind: 'absent'; readonly key: string }
  | { readonly kind: 'present'; readonly key: string }
  /** The hash has no such field. */
  | { readonly kind: 'free'; readonly key: string; readonly field: string }

/** A command whose first argument is its key. */
export type Write = readonly [command: string, key: string, ...args: Argument[]]

/** ARGV: number of checks, then kind, key, field or text of each; then length, command, key and rest of each write. */
const SCRIPT = toScript(`
local at = 2
for i = 1, tonumber(ARGV[1]) do
  local kind, key, text = ARGV[at], KEYS[tonumber(ARGV[at + 1])], ARGV[at + 2]
  at = at + 3
  local holds
  if kind == 'is' then holds = redis.call('GET', key) == text
  elseif kind == 'absent' then holds = redis.call('EXISTS', key) == 0
  elseif kind == 'present' then holds = redis.call('EXISTS', key) == 1
  else holds = redis.call('HEXISTS', key, text) == 0 end
  if not holds then return i end
end
while at <= #ARGV do
  local length = tonumber(ARGV[at])
  local command = { ARGV[at + 1], KEYS[tonumber(ARGV[at + 2])] }
  for i = 3, length do command[i] = ARGV[at + i] end
  redis.call(unpack(command))
  at = at + 1 + length
end
return 0
`)

/** Resolves to `undefined`, or to the first check that does not hold; then nothing was written. */
export async function commit(
  connection: Connection,
  timeoutMs: number,
  { checks, writes }: Transaction,
): Promise<Check | undefined> {
  const keys: string[] = []
  const placeOf = (key: string) => {
    const known = keys.indexOf(key)
    return known === -1 ? keys.push(key) : known + 1
  }
  const args: Argument[] = [checks.length]
  for (const check of checks) {
    args.push(
      check.kind,
      placeOf(check.key),
      check.kind === 'is' ? check.text : check.kind === 'free' ? check.field : '',
    )
  }
  for (const [command, key, ...rest] of writes) args.push(2 + rest.length, command, placeOf(key), ...rest)
  const failed = Number(await connection.run(timeoutMs, SCRIPT, keys, args))
  return failed === 0 ? undefined : checks[failed - 1]
}
