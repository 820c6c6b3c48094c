import { expect, it } from 'vitest'
import { openSoak } from '../support/soak.ts'

/** The short form of `npm run soak`; what it is about shows in the long one only. */

it.skipIf(process.platform !== 'linux')(
  'answers all well-behaved clients while one request in twenty goes wrong, and lets go of all it opened',
  async () => {
    await using soak = await openSoak(20261122)
    const stretches = [await soak.run(4, 500), await soak.run(4, 500), await soak.run(4, 500)]
    for (const { answers, wrong } of stretches) {
      expect(wrong).toBe(0)
      expect(answers).toBeGreaterThan(1800)
    }
    expect(stretches[2]?.descriptors).toBeLessThanOrEqual((stretches[0]?.descriptors ?? 0) + 64)
    expect(await soak.stop()).toBe('')
  },
  60_000,
)
