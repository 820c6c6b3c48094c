import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { findProgram } from '../bench/processes.ts'

/** That `npm run bench -- proxy` still measures; what comes of it in a second is no figure. */

const BENCH = path.resolve(import.meta.dirname, '../bench/run.ts')
const HAS_PROGRAMS = ['nginx', 'haproxy', 'wrk', 'taskset'].every((name) => findProgram(name) !== undefined)
const SHORT = { ROUNDS: '1', SECONDS: '1', WARM_UP: '1', CANDIDATES: 'dripgate-raw,nginx-same' }

it.skipIf(!HAS_PROGRAMS)(
  'the benchmark of the proxy compares real processes',
  async () => {
    const env = { ...process.env, ...SHORT }
    const { stdout } = await promisify(execFile)(process.execPath, [BENCH, 'proxy', 'small'], {
      env,
      timeout: 80_000,
    })
    for (const name of ['dripgate-raw', 'nginx-same']) {
      const cells =
        stdout
          .split('\n')
          .find((line) => line.startsWith(`| ${name} |`))
          ?.split('|') ?? []
      const [requests, cpuUs] = [Number(cells[2]), Number(cells[3])]
      expect(requests).toBeGreaterThan(100)
      expect(cpuUs).toBeGreaterThan(1)
      // No answer was another one than it should be.
      expect(cells[9]?.trim()).toBe('0')
    }
  },
  90_000,
)
