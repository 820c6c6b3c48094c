import { type Connection, type Script, toScript } from './connection.ts'
import { readScript } from './layout.ts'

/** buckets.lua from this side: what its calls and answers look like. */

const SCRIPT: Script = toScript(readScript('buckets.lua'))
/** About half a millisecond of Redis, so that one node does not block the others. */
export const STEPS_PER_CALL = 128
/** What `limitText` is where the bucket ends for good. */
export const NO_LIMIT = ''

/** What is done to one bucket, and what came of it. */
export interface BucketStep {
  readonly key: string
  readonly anchorMs: number
  /** "capacity rate interval at"; `NO_LIMIT` ends the bucket. */
  readonly limitText: string
  want: number
  readonly unit: number
  lend: number
  back: number
  under: number
  readonly isForced: boolean
  /** Tokens taken, or one of the two that follow. */
  got: number
  remaining: number
  lastMs: number
}

/** The bucket has a newer limit, or has ended. */
export const STALE = -1
/** The key holds something that is no bucket. */
export const NO_BUCKET = -2

/** Not asked of Redis, or without an answer: set by the caller. */
export const NOT_DECIDED = -3

export interface BucketCall {
  readonly timeoutMs: number
  /** Instants by the server's clock, or 0: see buckets.lua. */
  readonly overrideMs: number
  readonly notAfterMs: number
  readonly lessees: number
  /** No two steps are for the same key. */
  readonly isDistinct: boolean
}

/** A step that takes nothing and gives nothing back. */
export function createStep(step: Pick<BucketStep, 'key' | 'anchorMs' | 'limitText'>): BucketStep {
  const rest = { want: 0, unit: 1, lend: 0, back: 0, under: 0, isForced: false }
  return { ...step, ...rest, got: 0, remaining: 0, lastMs: 0 }
}

/** At most `STEPS_PER_CALL` steps, of keys with one hash tag, in one call. */
export async function runSteps(
  connection: Connection,
  steps: readonly BucketStep[],
  call: BucketCall,
): Promise<{ readonly serverMs: number; readonly isTooLate: boolean }> {
  const { keys, args } = encode(steps, call)
  const [serverMs = 0, texts, ...unusual] = (await connection.run(call.timeoutMs, SCRIPT, keys, args)) as [
    serverMs: number,
    texts?: string,
    ...unusual: number[],
  ]
  if (texts === undefined) return { serverMs, isTooLate: true }
  decode(steps, texts, unusual)
  return { serverMs, isTooLate: false }
}

function encode(
  steps: readonly BucketStep[],
  call: BucketCall,
): { keys: string[]; args: (string | number)[] } {
  const keys: string[] = []
  const limits = new Map<string, number>()
  const jobs = new Map<string, number>()
  let anchors = ''
  let which = ''
  let before: BucketStep | undefined
  let character = ''
  for (const step of steps) {
    keys.push(step.key)
    anchors += `${step.anchorMs} `
    // Most steps are like the one before.
    if (before === undefined || !isSameJob(step, before)) {
      const job = `${numberOf(limits, step)} ${step.want} ${step.unit} ${step.lend} ${step.back} ${step.under} ${step.isForced ? 1 : 0}`
      let number = jobs.get(job)
      if (number === undefined) {
        number = jobs.size
        jobs.set(job, number)
      }
      character = String.fromCharCode(number)
      before = step
    }
    which += character
  }
  const { overrideMs, notAfterMs, lessees, isDistinct } = call
  const head = [overrideMs, notAfterMs, lessees, isDistinct ? 1 : 0, anchors, which, limits.size]
  return { keys, args: [...head, ...limits.keys(), ...jobs.keys()] }
}

function isSameJob(a: BucketStep, b: BucketStep): boolean {
  return (
    a.want === b.want &&
    a.unit === b.unit &&
    a.lend === b.lend &&
    a.back === b.back &&
    a.under === b.under &&
    a.isForced === b.isForced &&
    a.limitText === b.limitText
  )
}

/** From 1; 0 ends the bucket. */
function numberOf(limits: Map<string, number>, { limitText }: BucketStep): number {
  if (limitText === NO_LIMIT) return 0
  const known = limits.get(limitText)
  if (known !== undefined) return known
  limits.set(limitText, limits.size + 1)
  return limits.size
}

function decode(steps: readonly BucketStep[], texts: string, unusual: readonly number[]): void {
  const numbers = new NumberReader(texts)
  for (const step of steps) {
    step.got = step.want
    step.remaining = numbers.next()
    step.lastMs = numbers.next()
  }
  for (let index = 0; index < unusual.length; index += 2) {
    const step = steps[unusual[index] ?? -1]
    if (step !== undefined) step.got = unusual[index + 1] ?? NO_BUCKET
  }
}

const [BLANK, MINUS, ZERO] = [0x20, 0x2d, 0x30]

/** Reads integers with a blank after each; without making a string of each. */
class NumberReader {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  next(): number {
    let number = 0
    let code = this.#text.charCodeAt(this.#at++)
    const isNegative = code === MINUS
    if (isNegative) code = this.#text.charCodeAt(this.#at++)
    for (; code > BLANK; code = this.#text.charCodeAt(this.#at++)) number = 10 * number + (code - ZERO)
    return isNegative ? -number : number
  }
}
