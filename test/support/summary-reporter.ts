import path from 'node:path'
import type { Reporter, SerializedError, TestModule } from 'vitest/node'

/**
 * Closes a run with the seconds that each directory of tests took, added up over its files, and
 * with one plain line for machines: `N passed, N failed, N skipped`. A file that could not be
 * loaded, a hook that failed and an error outside of any test each count as one failure.
 */
export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const totals = { passed: 0, failed: unhandledErrors.length, skipped: 0, pending: 0 }
    const secondsByDirectory = new Map<string, number>()
    for (const module of modules) {
      for (const test of module.children.allTests()) totals[test.result().state] += 1
      totals.failed += module.errors().length
      for (const suite of module.children.allSuites()) totals.failed += suite.errors().length
      const directory = path.basename(path.dirname(module.moduleId))
      secondsByDirectory.set(directory, (secondsByDirectory.get(directory) ?? 0) + secondsOf(module))
    }
    for (const [directory, seconds] of [...secondsByDirectory].sort()) {
      process.stdout.write(`${directory} ${seconds.toFixed(1)} s\n`)
    }
    const { passed, failed, skipped, pending } = totals
    process.stdout.write(`${passed} passed, ${failed} failed, ${skipped + pending} skipped\n`)
  }
}

function secondsOf(module: TestModule): number {
  const { prepareDuration, environmentSetupDuration, collectDuration, setupDuration, duration } =
    module.diagnostic()
  return (prepareDuration + environmentSetupDuration + collectDuration + setupDuration + duration) / 1000
}
