import { GATEWAY_ERRORS } from '../domain/errors.ts'
import type { WholeAnswer } from '../ports/transport.ts'
import { buildLocalAnswer, type LocalAnswerInput } from './local-answers.ts'
import { listFields, NO_STEADY } from './message-fields.ts'
import { findField, type RawHeaders, startsWithIgnoreCase } from './raw-headers.ts'

/*
 * gRPC clients read `grpc-status`, not the status of HTTP. So they are refused in their own terms,
 * with an answer of fields alone (trailers-only, gRPC over HTTP/2).
 */

const GRPC_TYPE = 'application/grpc'

/** By the status that other clients would get. */
const GRPC_STATUS: ReadonlyMap<number, number> = new Map([
  [400, 3], // INVALID_ARGUMENT
  [401, 16], // UNAUTHENTICATED
  [403, 7], // PERMISSION_DENIED
  [404, 12], // UNIMPLEMENTED
  [405, 12],
  [408, 4], // DEADLINE_EXCEEDED
  [413, 8], // RESOURCE_EXHAUSTED
  [414, 3],
  [429, 8],
  [431, 8],
  [500, 13], // INTERNAL
  [502, 14], // UNAVAILABLE
  [503, 14],
  // Not UNAVAILABLE: clients repeat that, and the call may have been carried out.
  [504, 4],
])
const UNKNOWN = 2

/** Not gRPC-Web, which is answered like everybody else. */
export function asksGrpc(rawHeaders: RawHeaders): boolean {
  const type = findField(rawHeaders, 'content-type')
  if (type === undefined || !startsWithIgnoreCase(type, GRPC_TYPE)) return false
  const next = type.charAt(GRPC_TYPE.length)
  return next === '' || next === '+' || next === ';'
}

export function buildGrpcAnswer(input: LocalAnswerInput): WholeAnswer {
  const { status, message } = GATEWAY_ERRORS[input.code]
  const plain = buildLocalAnswer({ ...input, asksProblem: false })
  const plainFields = listFields(plain)
  const fields = [
    'Content-Type',
    GRPC_TYPE,
    'Grpc-Status',
    String(GRPC_STATUS.get(status) ?? UNKNOWN),
    'Grpc-Message',
    // Messages of the gateway are printable ASCII; a percent sign would have to be encoded.
    message.replaceAll('%', '%25'),
  ]
  for (let i = 0; i < plainFields.length; i += 2) {
    const name = plainFields[i] ?? ''
    if (name !== 'Content-Type' && name !== 'Content-Length') fields.push(name, plainFields[i + 1] ?? '')
  }
  return { status: 200, steady: NO_STEADY, fresh: fields, body: '', mustClose: plain.mustClose }
}
