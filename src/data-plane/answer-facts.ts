import type { Recollection, SteadyFields } from '../ports/transport.ts'
import { type AnswerFieldsInput, buildSteadyAnswerFields } from './headers.ts'
import type { Route } from './route.ts'

/** Routes that get the same answers: mostly one. */
const KEPT_MAX = 4

/** What routes make of an answer's head that came before and may come again. */
class AnswerFacts {
  readonly #kept = new Map<Route, SteadyFields>()

  listSteadyFields(input: AnswerFieldsInput): SteadyFields {
    const known = this.#kept.get(input.route)
    if (known !== undefined) return known
    const steady = { list: buildSteadyAnswerFields(input), encoded: undefined }
    // Routes of a configuration that was replaced make way too.
    if (this.#kept.size === KEPT_MAX) this.#kept.clear()
    this.#kept.set(input.route, steady)
    return steady
  }
}

/** The fields to send to the client that follow from the answer; remembered where its head is. */
export function listSteadyAnswerFields(
  input: AnswerFieldsInput,
  recollection: Recollection | undefined,
): SteadyFields {
  if (recollection === undefined) return { list: buildSteadyAnswerFields(input), encoded: undefined }
  if (!(recollection.facts instanceof AnswerFacts)) recollection.facts = new AnswerFacts()
  return (recollection.facts as AnswerFacts).listSteadyFields(input)
}
