import type { RawFields, SteadyFields } from '../ports/transport.ts'

/** No steady fields: all of the message are its own. */
export const NO_STEADY: SteadyFields = { list: [], encoded: undefined }

/** All fields of a message, in order. */
export function listFields(message: { readonly steady: SteadyFields; readonly fresh: RawFields }): string[] {
  return [...message.steady.list, ...message.fresh]
}
