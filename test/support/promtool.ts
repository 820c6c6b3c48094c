import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { describe } from 'vitest'
import { findBinary } from './debian-packages.ts'
import { MONITORING_DIR } from './monitoring-files.ts'

/*
 * Prometheus's own tool: from PATH, else from Debian's package. Where it cannot be had its tests are
 * skipped with one line, and fail under `CI`.
 */

const promtool = findBinary({
  names: ['promtool'],
  packages: ['prometheus'],
  cacheName: 'prometheus',
  file: 'usr/bin/promtool',
})

export const describePromtool: typeof describe | typeof describe.skip = pickDescribe()

function pickDescribe() {
  if (promtool !== undefined) return describe
  if (process.env['CI']) throw new Error('no promtool can be had, and CI must not pass without its tests')
  process.stderr.write('no promtool can be had: its tests are skipped\n')
  return describe.skip
}

/** Runs it where the rules are. */
export function runPromtool(args: readonly string[], input = ''): { status: number | null; output: string } {
  if (promtool === undefined) throw new Error('there is no promtool')
  const { status, stdout, stderr } = spawnSync(promtool.file, args, {
    cwd: path.join(MONITORING_DIR, 'prometheus'),
    env: promtool.env,
    encoding: 'utf8',
    input,
  })
  return { status, output: stdout + stderr }
}
