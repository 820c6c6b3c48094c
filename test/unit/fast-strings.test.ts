import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'

const run = promisify(execFile)
const THREAD_STORE = new URL('../../src/stores/thread-store.ts', import.meta.url).href
const FAST_STRINGS = new URL('../../src/fast-strings.ts', import.meta.url).href

it('gives strings their fast methods back after the modules of the stores have taken them', async () => {
  const program = `
    import { makeStringsFast } from '${FAST_STRINGS}'
    await import('${THREAD_STORE}')
    const before = %HasFastProperties(String.prototype)
    makeStringsFast()
    console.log(before, %HasFastProperties(String.prototype))`
  const { stdout } = await run(process.execPath, [
    '--allow-natives-syntax',
    '--input-type=module',
    '--eval',
    program,
  ])
  // The day that the first is true, there is nothing left to make up for.
  expect(stdout.trim()).toBe('false true')
})
