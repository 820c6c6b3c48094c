import { STATUS_CODES } from 'node:http'
import type { WholeAnswer } from '../../ports/transport.ts'
import { listFields } from '../message-fields.ts'

/** An answer as bytes, for sockets on which Node's parser has given up. It closes the connection. */
export function encodeAnswer(answer: WholeAnswer, nowMs: number): Buffer {
  const { status, body } = answer
  const rawHeaders = listFields(answer)
  let text = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Unknown'}\r\n`
  for (let i = 0; i < rawHeaders.length; i += 2) text += `${rawHeaders[i]}: ${rawHeaders[i + 1]}\r\n`
  text += `Date: ${new Date(nowMs).toUTCString()}\r\nConnection: close\r\n\r\n${body}`
  return Buffer.from(text, 'latin1')
}
