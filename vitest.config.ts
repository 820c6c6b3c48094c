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
    // Tests that kill servers and measure deadlines share a machine in CI; a real fault fails twice.
    retry: process.env['CI'] === undefined ? 0 : 1,
    reporters: ['default', './test/support/summary-reporter.ts'],
  },
})
