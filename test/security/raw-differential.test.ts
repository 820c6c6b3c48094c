import { describe, expect, it } from 'vitest'
import { compareParsers, type FuzzTally } from '../support/http1-differential.ts'
import { fuzzGateway } from '../support/http1-gateway-fuzz.ts'

const BUDGET_MS = 6000
const STREAMS_PER_SEED = 2000

describe('our parser beside that of node:http', () => {
  it('accepts nothing that llhttp reads in another way or refuses, however the stream is cut', () => {
    const tally: FuzzTally = { streams: 0, messages: 0, accepted: 0, refused: 0 }
    const firstSeed = Math.floor(Math.random() * 2 ** 31)
    const deadline = performance.now() + BUDGET_MS
    for (let seed = firstSeed; performance.now() < deadline; seed++)
      compareParsers(seed, STREAMS_PER_SEED, tally)
    // Both kinds must be among them, or the test shows nothing.
    expect(tally.accepted).toBeGreaterThan(100)
    expect(tally.refused).toBeGreaterThan(100)
  })

  it('forwards no more requests than llhttp sees, and none with another body', async () => {
    const { forwarded } = await fuzzGateway(Math.floor(Math.random() * 2 ** 31), 150)
    expect(forwarded).toBeGreaterThan(20)
  })
})
