import { equalsIgnoreCase, hasListItem, type RawHeaders } from '../raw-headers.ts'

const LENGTH_DIGITS_MAX = 15

/**
 * What the fields of one message say about where it ends and what becomes of its connection (RFC
 * 9112 sections 6 and 9).
 */
export class Framing {
  /** -1 where no length is announced. */
  contentLength = -1
  isChunked = false
  expectsContinue = false
  hasUpgrade = false
  /** `Connection: close`. */
  wantsClose = false
  #lengths = 0
  #encodings = 0
  #hosts = 0

  /**
   * Reads the fields, once; `false` where it is not beyond doubt how long the message is: two lengths or
   * a list of them, a length and a transfer coding, any coding but one `chunked`, any coding in
   * HTTP/1.0 (`minor` 0). Two Host fields are as bad.
   */
  read(fields: RawHeaders, minor: number): boolean {
    for (let i = 0; i < fields.length; i += 2) {
      if (!this.#readField(fields[i] ?? '', fields[i + 1] ?? '')) return false
    }
    return this.#encodings === 0 || (this.#lengths === 0 && minor === 1)
  }

  #readField(name: string, value: string): boolean {
    // By length first: most fields are none of these.
    switch (name.length) {
      case 4:
        return !equalsIgnoreCase(name, 'host') || ++this.#hosts === 1
      case 6:
        if (equalsIgnoreCase(name, 'expect')) this.expectsContinue = true
        return true
      case 7:
        if (equalsIgnoreCase(name, 'upgrade')) this.hasUpgrade = true
        return true
      case 10:
        if (equalsIgnoreCase(name, 'connection') && hasListItem(value, 'close')) this.wantsClose = true
        return true
      case 14:
        if (!equalsIgnoreCase(name, 'content-length')) return true
        this.contentLength = parseLength(value)
        return ++this.#lengths === 1 && this.contentLength >= 0
      case 17:
        if (!equalsIgnoreCase(name, 'transfer-encoding')) return true
        this.isChunked = true
        return ++this.#encodings === 1 && equalsIgnoreCase(value, 'chunked')
      default:
        return true
    }
  }
}

/** Digits only, so that no sign, list or space passes; -1 for anything else. */
export function parseLength(value: string): number {
  if (value === '' || value.length > LENGTH_DIGITS_MAX) return -1
  let length = 0
  for (let i = 0; i < value.length; i++) {
    const digit = value.charCodeAt(i) - 0x30
    if (digit < 0 || digit > 9) return -1
    length = length * 10 + digit
  }
  return length
}
