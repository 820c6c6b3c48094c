import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/{unit,contract,integration,security,regression}/**/*.test.ts'],
    setupFiles: ['test/support/setup.ts'],
    // Processes, not threads: tests start gateways, send signals and count descriptors.
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 20_000,
    hookTimeout: 30_000,
    reporters: ['default', './test/support/summary-reporter.ts'],
  },
})
