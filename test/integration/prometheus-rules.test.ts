import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { findBinary } from '../support/debian-packages.ts'
import { MONITORING_DIR } from '../support/monitoring-files.ts'

/*
 * Prometheus's own tool says whether the shipped configuration and rules are sound, and whether each
 * alert fires when it should. Where it cannot be had the tests are skipped, and fail under `CI`.
 */

const promtool = findBinary({
  names: ['promtool'],
  packages: ['prometheus'],
  cacheName: 'prometheus',
  file: 'usr/bin/promtool',
})
if (promtool === undefined) {
  if (process.env['CI']) throw new Error('no promtool can be had, and CI must not pass without its tests')
  process.stderr.write('no promtool can be had: the Prometheus rules are not tested\n')
}

describe.skipIf(promtool === undefined)('promtool', () => {
  it.each([
    ['check', 'config', 'prometheus.yaml'],
    ['check', 'rules', '--lint-fatal', 'recording-rules.yaml', 'alert-rules.yaml'],
    ['test', 'rules', 'rules.test.yaml'],
  ])('%s %s', (...args) => {
    const { status, stdout, stderr } = spawnSync(promtool?.file ?? '', args, {
      cwd: path.join(MONITORING_DIR, 'prometheus'),
      env: promtool?.env,
      encoding: 'utf8',
    })
    expect(status, stdout + stderr).toBe(0)
  })
})
