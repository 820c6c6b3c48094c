// `npm run check`: every static check, each with its time; fails when any of them failed.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))

const CHECKS = [
  {
    name: 'format and lint',
    args: ['node_modules/@biomejs/biome/bin/biome', 'ci', '--error-on-warnings', '.'],
  },
  { name: 'types', args: ['node_modules/typescript/bin/tsc', '-p', '.'] },
  { name: 'layers', args: ['scripts/check-layers.mjs'] },
  { name: 'dead code', args: ['node_modules/knip/bin/knip.js'] },
]

const results = CHECKS.map(({ name, args }) => {
  console.log(`\n── ${name}`)
  const startedMs = performance.now()
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' })
  return { name, passed: status === 0, seconds: (performance.now() - startedMs) / 1000 }
})

console.log('')
for (const { name, passed, seconds } of results) {
  console.log(`${passed ? 'ok    ' : 'FAILED'}  ${name.padEnd(16)} ${seconds.toFixed(1).padStart(6)} s`)
}
const failed = results.filter(({ passed }) => !passed)
if (failed.length > 0) {
  console.log(
    `\n${failed.length} of ${results.length} checks failed: ${failed.map(({ name }) => name).join(', ')}`,
  )
  process.exit(1)
}
