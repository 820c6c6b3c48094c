import { createRequire } from 'node:module'
import { BodyReader } from '../../src/data-plane/http1/body-reader.ts'
import { INCOMPLETE, MALFORMED } from '../../src/data-plane/http1/field-section.ts'
import { RequestParser } from '../../src/data-plane/http1/request-parser.ts'
import { mayReuseConnection, openResponseBody } from '../../src/data-plane/http1/response-body.ts'
import { ResponseParser } from '../../src/data-plane/http1/response-parser.ts'
import { checkRequestHead } from '../../src/data-plane/request-check.ts'

/*
 * Whole streams of messages, read by our parsers and by llhttp, the parser of node:http, so that
 * the two can be compared.
 */

export interface ReadMessage {
  /** Method and target, or the status. */
  readonly start: string
  readonly fields: readonly string[]
  readonly body: string
  readonly trailers: readonly string[]
}

export interface ReadStream {
  /** Messages that came whole. */
  readonly messages: readonly ReadMessage[]
  readonly end: 'more' | 'fault' | 'switched'
  /** It ends within a body. */
  readonly isInBody: boolean
  /** The body read so far of an answer that only the end of the connection ends. */
  readonly open: string | undefined
}

const LIMITS = { headBytesMax: 16 * 1024, fieldsMax: 100, targetBytesMax: 8 * 1024 }
const HEAD_LIMITS = { headersMax: LIMITS.fieldsMax, targetBytesMax: LIMITS.targetBytesMax }
const requestParser = new RequestParser(LIMITS)
const responseParser = new ResponseParser({ headBytesMax: 64 * 1024, fieldsMax: 1000 })

interface Head {
  readonly start: string
  readonly fields: readonly string[]
  readonly body: BodyReader
  readonly isSwitch: boolean
}

/** Reads as the raw front does: what the pieces are makes no difference. */
export function readRequests(pieces: readonly Buffer[]): ReadStream {
  return readStream(pieces, (bytes, at) => {
    const end = requestParser.parse(bytes, at, bytes.length)
    if (end < 0) return end
    const { method, target, minor, rawHeaders, framing } = requestParser
    const httpVersion = minor === 0 ? '1.0' : '1.1'
    const head = checkRequestHead({ method, target, httpVersion, rawHeaders }, HEAD_LIMITS)
    if (head.kind === 'fault') return MALFORMED
    if (head.contentLength !== framing.contentLength || head.isChunked !== framing.isChunked) {
      throw new Error('two readings of the framing of one head')
    }
    const length = Math.max(0, framing.contentLength)
    return {
      end,
      start: `${method} ${target}`,
      fields: rawHeaders,
      body: framing.isChunked ? BodyReader.ofChunks() : BodyReader.ofLength(length),
      isSwitch: framing.hasUpgrade || framing.wantsClose || minor === 0,
    }
  })
}

/** Answers to GET. */
export function readResponses(pieces: readonly Buffer[]): ReadStream {
  return readStream(pieces, (bytes, at) => {
    const end = responseParser.parse(bytes, at, bytes.length)
    if (end < 0) return end
    const { status, rawHeaders } = responseParser
    const body = openResponseBody(responseParser, 'GET')
    if (body === undefined) return MALFORMED
    return {
      end,
      start: String(status),
      fields: rawHeaders,
      body,
      isSwitch: status === 101 || !(status < 200 || mayReuseConnection(responseParser, body)),
    }
  })
}

type ReadHead = (bytes: Buffer, at: number) => number | (Head & { readonly end: number })

function readStream(pieces: readonly Buffer[], readHead: ReadHead): ReadStream {
  const messages: ReadMessage[] = []
  let bytes = Buffer.alloc(0)
  let at = 0
  let head: Head | undefined
  let text = ''
  for (const piece of pieces) {
    bytes = Buffer.concat([bytes.subarray(at), piece])
    at = 0
    for (;;) {
      if (head === undefined) {
        if (at === bytes.length) break
        const found = readHead(bytes, at)
        if (found === INCOMPLETE) break
        if (typeof found === 'number') return { messages, end: 'fault', isInBody: false, open: undefined }
        head = found
        at = found.end
        text = ''
      }
      const { body } = head
      at = body.next(bytes, at, bytes.length)
      if (body.event === 'fault') return { messages, end: 'fault', isInBody: false, open: undefined }
      if (body.event === 'more') break
      if (body.event === 'data') {
        text += bytes.toString('latin1', body.dataStart, body.dataEnd)
        continue
      }
      messages.push({ start: head.start, fields: head.fields, body: text, trailers: body.trailers })
      if (head.isSwitch) return { messages, end: 'switched', isInBody: false, open: undefined }
      head = undefined
    }
  }
  const open = head?.body.isUntilClose === true ? text : undefined
  return { messages, end: 'more', isInBody: head !== undefined, open }
}

/** The binding of node:http; its types are nobody's business but ours. */
interface Llhttp {
  initialize(kind: number, resource: object, headBytesMax: number): void
  execute(bytes: Buffer): number | Error
  [event: number]: unknown
}

interface LlhttpConstructor {
  new (): Llhttp
  readonly REQUEST: number
  readonly RESPONSE: number
  readonly kOnHeaders: number
  readonly kOnHeadersComplete: number
  readonly kOnBody: number
  readonly kOnMessageComplete: number
}

const common = createRequire(import.meta.url)('_http_common') as {
  HTTPParser: LlhttpConstructor
  methods: readonly string[]
}

const llhttp = new common.HTTPParser()

export function readByLlhttp(kind: 'request' | 'response', bytes: Buffer): ReadStream {
  const { HTTPParser, methods } = common
  const messages: ReadMessage[] = []
  const parser = llhttp
  parser.initialize(kind === 'request' ? HTTPParser.REQUEST : HTTPParser.RESPONSE, {}, 128 * 1024)
  let early: string[] = []
  let target = ''
  let start = ''
  let fields: readonly string[] = []
  let text = ''
  let isOpen = false
  let hasSwitched = false
  parser[HTTPParser.kOnHeaders] = (headers: string[], url: string) => {
    early.push(...headers)
    target += url
  }
  parser[HTTPParser.kOnHeadersComplete] = (
    _major: number,
    _minor: number,
    headers: string[] | undefined,
    method: number,
    url: string | undefined,
    status: number,
    _reason: string,
    isUpgrade: boolean,
  ) => {
    start = kind === 'request' ? `${methods[method]} ${url ?? target}` : String(status)
    fields = [...early, ...(headers ?? [])]
    early = []
    target = ''
    text = ''
    isOpen = true
    if (isUpgrade) hasSwitched = true
    return 0
  }
  parser[HTTPParser.kOnBody] = (chunk: Buffer) => {
    text += chunk.toString('latin1')
  }
  parser[HTTPParser.kOnMessageComplete] = () => {
    messages.push({ start, fields, body: text, trailers: early })
    // With trailers the binding repeats the target.
    early = []
    target = ''
    isOpen = false
  }
  const outcome = parser.execute(bytes)
  const end = outcome instanceof Error ? 'fault' : hasSwitched ? 'switched' : 'more'
  return { messages, end, isInBody: isOpen, open: isOpen ? text : undefined }
}
