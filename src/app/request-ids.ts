import type { Random } from '../ports/runtime.ts'
import { writeHex } from './hex.ts'
import { createSlices } from './slices.ts'

const BYTES_PER_ID = 16
const IDS_PER_DRAW = 512
const ID_LENGTH = 36
const DASH = 0x2d

/** Makes random UUIDs (RFC 9562 section 5.4). */
export function createRequestIds(random: Random): () => string {
  return createSlices(ID_LENGTH, () => drawIds(random))
}

function drawIds(random: Random): string {
  const bytes = random.bytes(BYTES_PER_ID * IDS_PER_DRAW)
  const text = Buffer.alloc(ID_LENGTH * IDS_PER_DRAW, DASH)
  for (let id = 0; id < IDS_PER_DRAW; id++) {
    const from = id * BYTES_PER_ID
    // Version 4 and the variant of the RFC, each in the upper bits of its byte.
    bytes[from + 6] = ((bytes[from + 6] ?? 0) & 0x0f) | 0x40
    bytes[from + 8] = ((bytes[from + 8] ?? 0) & 0x3f) | 0x80
    const at = id * ID_LENGTH
    writeHex(text, at, bytes, from, 4)
    writeHex(text, at + 9, bytes, from + 4, 2)
    writeHex(text, at + 14, bytes, from + 6, 2)
    writeHex(text, at + 19, bytes, from + 8, 2)
    writeHex(text, at + 24, bytes, from + 10, 6)
  }
  return text.toString('latin1')
}
