import type { Random } from '../ports/runtime.ts'
import { writeHex } from './hex.ts'
import { createSlices } from './slices.ts'

const IDS_PER_DRAW = 512
const BYTES_PER_TRACE = 16
const BYTES_PER_SPAN = 8
const BYTES_PER_PARENT = BYTES_PER_TRACE + BYTES_PER_SPAN
/** Version, ids and flags, where the digits of the ids are still zeros. */
const TEMPLATE = `00-${'0'.repeat(2 * BYTES_PER_TRACE)}-${'0'.repeat(2 * BYTES_PER_SPAN)}-00`
const TRACE_AT = 3
const SPAN_AT = 36
const FLAGS_AT = 54
const SAMPLED = 0x31

/**
 * Makes W3C traceparents with random ids. `sampleRatio` of them, 0 to 1, are marked as sampled, by
 * the last four bytes of the trace id.
 */
export function createTraceparents(random: Random, sampleRatio: number): () => string {
  return createSlices(TEMPLATE.length, () => drawTraceparents(random, sampleRatio))
}

function drawTraceparents(random: Random, sampleRatio: number): string {
  const bytes = random.bytes(BYTES_PER_PARENT * IDS_PER_DRAW)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const text = Buffer.alloc(TEMPLATE.length * IDS_PER_DRAW, TEMPLATE)
  for (let id = 0; id < IDS_PER_DRAW; id++) {
    const from = id * BYTES_PER_PARENT
    const at = id * TEMPLATE.length
    writeHex(text, at + TRACE_AT, bytes, from, BYTES_PER_TRACE)
    writeHex(text, at + SPAN_AT, bytes, from + BYTES_PER_TRACE, BYTES_PER_SPAN)
    const isSampled = sampleRatio >= 1 || view.getUint32(from + BYTES_PER_TRACE - 4) < sampleRatio * 2 ** 32
    if (isSampled) text[at + FLAGS_AT] = SAMPLED
  }
  return text.toString('latin1')
}

/** Makes random ids of spans, 16 hex digits each. */
export function createSpanIds(random: Random): () => string {
  return createSlices(2 * BYTES_PER_SPAN, () =>
    Buffer.from(random.bytes(BYTES_PER_SPAN * IDS_PER_DRAW)).toString('hex'),
  )
}
