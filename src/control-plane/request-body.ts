import type { IncomingMessage } from 'node:http'
import { RpcError } from '../domain/errors.ts'

/** The client left before its request was complete: there is nobody to answer. */
export class ClientGone extends Error {
  constructor() {
    super('the client closed the connection')
    this.name = 'ClientGone'
  }
}

const DEPTH_MAX = 64
const UTF_8 = new TextDecoder('utf-8', { fatal: true })

const JSON_TYPE = /^application\/(?:[a-z0-9!#$&^_.-]+\+)?json\s*(?:;|$)/i

export function isJsonType(contentType: string | undefined): boolean {
  return contentType !== undefined && JSON_TYPE.test(contentType)
}

/**
 * Reads the whole body. Fails with `payload_too_large` as soon as it is known to have more than
 * `bodyBytesMax` bytes, and then reads no further.
 */
export function readBody(request: IncomingMessage, bodyBytesMax: number): Promise<Buffer> {
  const length = request.headers['content-length']
  if (length !== undefined && Number(length) > bodyBytesMax) {
    return Promise.reject(new RpcError('payload_too_large'))
  }
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let bytes = 0
    const settle = (act: () => void) => {
      request.off('data', collect).off('end', finish).off('error', giveUp).off('close', giveUp)
      // Whatever happens to the rest of this request, it is no longer our business.
      request.on('error', () => {})
      act()
    }
    const collect = (chunk: Buffer) => {
      bytes += chunk.length
      chunks.push(chunk)
      if (bytes <= bodyBytesMax) return
      request.pause()
      settle(() => reject(new RpcError('payload_too_large')))
    }
    const finish = () => settle(() => resolve(Buffer.concat(chunks)))
    const giveUp = () => settle(() => reject(new ClientGone()))
    request.on('data', collect).on('end', finish).on('error', giveUp).on('close', giveUp)
    if (request.destroyed) giveUp()
  })
}

/**
 * An empty body and `null` are `{}`. Fails with `invalid_json` for what is no JSON, and for more
 * than 64 levels, so that nothing further down has to fear depth; with `invalid_payload` for what
 * is no object.
 */
export function parseJsonObject(body: Uint8Array, parse: (text: string) => unknown = JSON.parse): object {
  const value = parseJson(decodeUtf8(body), parse) ?? {}
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw new RpcError('invalid_payload', { details: ['the body must be a JSON object'] })
  }
  return value
}

function parseJson(text: string, parse: (text: string) => unknown): unknown {
  if (text.trim() === '') return undefined
  if (isTooDeep(text)) {
    throw new RpcError('invalid_json', { details: [`the body has more than ${DEPTH_MAX} levels`] })
  }
  try {
    return parse(text)
  } catch {
    // The parser's message quotes the body, which may hold a token.
    throw new RpcError('invalid_json')
  }
}

function decodeUtf8(body: Uint8Array): string {
  try {
    return UTF_8.decode(body)
  } catch {
    throw new RpcError('invalid_json', { details: ['the body is not UTF-8'] })
  }
}

/** Whether there are more than 64 levels. Counts brackets outside strings; a text that is no JSON may be judged either way. */
export function isTooDeep(text: string): boolean {
  let depth = 0
  let isInString = false
  for (let index = 0; index < text.length; index++) {
    const char = text.charCodeAt(index)
    if (isInString) {
      if (char === 0x5c) index++
      else if (char === 0x22) isInString = false
    } else if (char === 0x22) isInString = true
    else if (char === 0x7b || char === 0x5b) depth++
    else if (char === 0x7d || char === 0x5d) depth--
    if (depth > DEPTH_MAX) return true
  }
  return false
}
