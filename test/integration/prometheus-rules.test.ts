import { expect, it } from 'vitest'
import { describePromtool, runPromtool } from '../support/promtool.ts'

/* Whether the shipped configuration and rules are sound, and each alert fires when it should. */

describePromtool('promtool', () => {
  it.each([
    ['check', 'config', 'prometheus.yaml'],
    ['check', 'rules', '--lint-fatal', 'recording-rules.yaml', 'alert-rules.yaml'],
    ['test', 'rules', 'rules.test.yaml'],
  ])('%s %s', { timeout: 120_000 }, (...args) => {
    const { status, output } = runPromtool(args)
    expect(status, output).toBe(0)
  })
})
