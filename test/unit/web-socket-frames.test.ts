import fc from 'fast-check'
import { expect, it } from 'vitest'
import { FrameTracker } from '../../src/data-plane/upstream/web-socket-frames.ts'

/** A frame of RFC 6455 section 5.2 with that many bytes of payload. */
function encodeFrame(payloadBytes: number, isMasked: boolean): Buffer {
  const mask = isMasked ? 0x80 : 0
  const head =
    payloadBytes < 126
      ? Buffer.from([0x82, mask | payloadBytes])
      : payloadBytes < 65_536
        ? Buffer.from([0x82, mask | 126, payloadBytes >> 8, payloadBytes & 0xff])
        : Buffer.concat([
            Buffer.from([0x82, mask | 127, 0, 0, 0, 0]),
            Buffer.from(new Uint32Array([payloadBytes]).buffer).reverse(),
          ])
  return Buffer.concat([head, Buffer.alloc(isMasked ? 4 : 0), Buffer.alloc(payloadBytes, 0x88)])
}

const frame = fc.tuple(fc.constantFrom(0, 1, 125, 126, 300, 65_535, 65_536, 70_000), fc.boolean())

it('finds every end of a frame, however the stream is cut', () => {
  fc.assert(
    fc.property(fc.array(frame, { minLength: 1, maxLength: 6 }), fc.array(fc.nat(70_000)), (frames, cuts) => {
      const encoded = frames.map(([bytes, isMasked]) => encodeFrame(bytes, isMasked))
      const stream = Buffer.concat(encoded)
      const ends = new Set(encoded.map((_, i) => Buffer.concat(encoded.slice(0, i + 1)).length))

      const tracker = new FrameTracker()
      let start = 0
      for (const cut of [...cuts, stream.length]
        .filter((each) => each <= stream.length)
        .sort((a, b) => a - b)) {
        const boundary = tracker.push(stream.subarray(start, cut))
        const expected = [...ends].find((end) => end > start && end <= cut)
        expect(boundary).toBe(expected === undefined ? -1 : expected - start)
        expect(tracker.isAtBoundary).toBe(cut === 0 || ends.has(cut))
        start = cut
      }
    }),
    { numRuns: 200 },
  )
})
