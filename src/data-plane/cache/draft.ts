import { findField, hasListItem, joinFields, type RawHeaders } from '../raw-headers.ts'
import type { Entry } from './entry.ts'
import type { EntryStore } from './entry-store.ts'
import type { Storable } from './storability.ts'

/** The body of an answer that is being received, while it is also sent to the client. */
export class Draft {
  readonly varyNames: readonly string[]
  readonly #entry: Storable['entry']
  readonly #store: EntryStore
  readonly #bytesMax: number
  /** -1 where it is chunked. */
  readonly #announced: number
  #chunks: Uint8Array[] = []
  #bytes = 0
  #reserved = 0
  #isOpen = true

  constructor(storable: Storable, store: EntryStore, announced: number, bytesMax: number) {
    this.varyNames = storable.varyNames
    this.#entry = storable.entry
    this.#store = store
    this.#announced = announced
    this.#bytesMax = bytesMax
  }

  /** The chunk is lent, so it is copied. `false`: it became too large, and is given up. */
  add(chunk: Uint8Array): boolean {
    if (!this.#isOpen) return false
    this.#bytes += chunk.length
    if (this.#bytes > this.#bytesMax || !this.#reserve(chunk.length)) {
      this.drop()
      return false
    }
    this.#chunks.push(new Uint8Array(chunk))
    return true
  }

  /** The answer, if all of it has come. */
  complete(): Entry | undefined {
    const isWhole = this.#isOpen && (this.#announced < 0 || this.#bytes === this.#announced)
    const body = isWhole ? joinChunks(this.#chunks, this.#bytes) : undefined
    this.drop()
    if (body === undefined) return undefined
    const hasLength = this.#entry.status !== 204
    const rawHeaders = hasLength
      ? [...this.#entry.rawHeaders, 'Content-Length', String(body.length)]
      : this.#entry.rawHeaders
    return { ...this.#entry, rawHeaders, body }
  }

  drop(): void {
    this.#isOpen = false
    this.#chunks = []
    this.#store.release(this.#reserved)
    this.#reserved = 0
  }

  #reserve(bytes: number): boolean {
    if (!this.#store.reserve(bytes)) return false
    this.#reserved += bytes
    return true
  }
}

/** `undefined` where the end of the body could not be told from its being cut off, or it is too large. */
export function openDraft(
  storable: Storable,
  rawHeaders: RawHeaders,
  store: EntryStore,
  bytesMax: number,
): Draft | undefined {
  const length = findField(rawHeaders, 'content-length')
  if (length === undefined) {
    const isFramed =
      storable.entry.status === 204 || hasListItem(joinFields(rawHeaders, 'transfer-encoding'), 'chunked')
    return isFramed ? new Draft(storable, store, -1, bytesMax) : undefined
  }
  return Number(length) <= bytesMax ? new Draft(storable, store, Number(length), bytesMax) : undefined
}

function joinChunks(chunks: readonly Uint8Array[], bytes: number): Uint8Array {
  if (chunks.length === 1 && chunks[0] !== undefined) return chunks[0]
  const body = new Uint8Array(bytes)
  let offset = 0
  for (const chunk of chunks) {
    body.set(chunk, offset)
    offset += chunk.length
  }
  return body
}
