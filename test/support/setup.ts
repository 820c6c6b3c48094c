import { afterAll } from 'vitest'

/**
 * An error that nobody handled fails the test file it happened in. The runner reports it too, but
 * only for the run as a whole.
 */
const unhandled: unknown[] = []
process.on('unhandledRejection', (reason) => unhandled.push(reason))
process.on('uncaughtException', (error) => unhandled.push(error))

afterAll(async () => {
  // Rejections are reported after the microtasks of the turn that made them.
  await new Promise((resolve) => setImmediate(resolve))
  if (unhandled.length > 0) throw new AggregateError(unhandled, 'errors that nobody handled')
})
