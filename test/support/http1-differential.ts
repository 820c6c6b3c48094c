import { createDice, type MessageKind, makeStream, split } from './http1-corpus.ts'
import {
  type ReadMessage,
  type ReadStream,
  readByLlhttp,
  readRequests,
  readResponses,
} from './http1-streams.ts'

export interface FuzzTally {
  streams: number
  /** As made, some of them broken. */
  messages: number
  /** Messages that we accepted whole. */
  accepted: number
  /** Streams that we refused at some point. */
  refused: number
}

const NUL = Buffer.alloc(1)

/** Compares `streams` random streams; throws, with the stream, at the first that is read in two ways. */
export function compareParsers(seed: number, streams: number, tally: FuzzTally): void {
  const dice = createDice(seed)
  for (let i = 0; i < streams; i++) {
    const kind: MessageKind = i % 2 === 0 ? 'request' : 'response'
    const bytes = makeStream(kind, dice)
    const made = bytes.toString('latin1').split('HTTP/').length - 1
    const read = kind === 'request' ? readRequests : readResponses
    const ours = read([bytes])
    // Within a head or trailers llhttp may know a little earlier that no good end is possible.
    const isInData = ours.end === 'more' && ours.isInBody && read([bytes, NUL]).end === 'more'
    const problem =
      findProblem(ours, readByLlhttp(kind, bytes), isInData) ?? findSplit(ours, read(split(bytes, dice)))
    if (problem !== undefined)
      throw new Error(`${problem}\nseed ${seed}, ${kind} ${i}: ${JSON.stringify(bytes.toString('latin1'))}`)
    tally.streams++
    tally.messages += made
    tally.accepted += ours.messages.length
    if (ours.end === 'fault') tally.refused++
  }
}

/** What we accept, llhttp accepts, and sees the same messages in it. */
function findProblem(ours: ReadStream, theirs: ReadStream, isInData: boolean): string | undefined {
  for (const [index, message] of ours.messages.entries()) {
    const other = theirs.messages[index]
    if (other === undefined)
      return `message ${index}: accepted here, not by llhttp: ${JSON.stringify(message)}`
    if (toText(message) !== toText(other)) {
      return `message ${index}: ${JSON.stringify(message)} here, ${JSON.stringify(other)} by llhttp`
    }
  }
  if (ours.end === 'more' && theirs.messages.length > ours.messages.length) return 'llhttp sees more messages'
  if (isInData && theirs.end === 'fault') return 'refused by llhttp, but not here'
  if (ours.open !== undefined && ours.open !== theirs.open) return 'two readings of an open body'
  return undefined
}

function findSplit(whole: ReadStream, pieces: ReadStream): string | undefined {
  const isSame =
    whole.end === pieces.end &&
    whole.open === pieces.open &&
    whole.isInBody === pieces.isInBody &&
    whole.messages.map(toText).join() === pieces.messages.map(toText).join()
  return isSame ? undefined : `in pieces: ${JSON.stringify(pieces)}, whole: ${JSON.stringify(whole)}`
}

/** Without the blanks around values, which mean nothing and which llhttp cuts off. */
function toText({ start, fields, body, trailers }: ReadMessage): string {
  return `${start}\n${fields.map(trimBlanks).join('\n')}\n\n${body}\n${trailers.map(trimBlanks).join('\n')}`
}

function trimBlanks(text: string): string {
  return /^[ \t]|[ \t]$/.test(text) ? text.replace(/^[ \t]+|[ \t]+$/g, '') : text
}
