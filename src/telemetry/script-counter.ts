import { Counter, type Registry } from 'prom-client'

/** Counts a call of the script API; call and outcome come from closed sets. */
export type ScriptCounter = (
  call: string,
  outcome: string,
  keys: { readonly done: number; readonly missing: number; readonly failed: number },
) => void

export function createScriptCounter(registry: Registry): ScriptCounter {
  const registers = [registry]
  const calls = new Counter({
    name: 'dripgate_script_requests_total',
    help: 'Calls of the script API by what came of them.',
    labelNames: ['call', 'outcome'],
    registers,
  })
  const keys = new Counter({
    name: 'dripgate_script_keys_total',
    help: 'Keys of the cache database that these calls named: done, not there, or failed.',
    labelNames: ['call', 'result'],
    registers,
  })
  return (call, outcome, { done, missing, failed }) => {
    calls.inc({ call, outcome })
    for (const [result, count] of Object.entries({ done, missing, failed })) {
      if (count > 0) keys.inc({ call, result }, count)
    }
  }
}
