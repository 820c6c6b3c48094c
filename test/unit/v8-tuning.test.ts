import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'

const run = promisify(execFile)
const source = (file: string) => JSON.stringify(new URL(`../../src/${file}`, import.meta.url).href)

/** What a program prints in a process of its own: a list of JSON. */
async function runProgram(program: string): Promise<unknown[]> {
  const flags = ['--allow-natives-syntax', '--input-type=module', '--eval']
  const { stdout } = await run(process.execPath, [...flags, program])
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
}

// Both tests also show what V8 does without us: the day that this is no longer so, there is nothing to undo.

it('gives strings their fast methods back after the modules of the stores have taken them', async () => {
  const printed = await runProgram(`
    import { tuneV8 } from ${source('v8-tuning.ts')}
    await import(${source('stores/thread-store.ts')})
    console.log(%HasFastProperties(String.prototype))
    tuneV8()
    console.log(%HasFastProperties(String.prototype))`)
  expect(printed).toEqual([false, true])
})

it.each([
  ['without it', '', true],
  ['with it', 'tuneV8()', false],
])('lists of fields stay young after some that were kept for long: %s', async (_name, tune, growsOld) => {
  const [grown] = await runProgram(`
    import { getHeapSpaceStatistics } from 'node:v8'
    import { tuneV8 } from ${source('v8-tuning.ts')}
    import { createMarks, readFieldSection, toRawFields } from ${source('data-plane/http1/field-section.ts')}
    ${tune}
    const bytes = Buffer.from('Host: a\\r\\nX-Some: 0123456789abcdef\\r\\nX-Other: 0123456789abcdef\\r\\n\\r\\n')
    const marks = createMarks(100)
    const read = () => {
      readFieldSection(bytes, 0, bytes.length, marks)
      return toRawFields(bytes.toString('latin1'), 0, marks)
    }
    const measure = () => getHeapSpaceStatistics().find((space) => space.space_name === 'old_space').space_used_size
    const kept = []
    for (let i = 0; i < 300_000; i++) kept.push(read())
    kept.length = 0
    let grown = 0
    for (let round = 0; round < 20; round++) {
      const before = measure()
      for (let i = 0; i < 30_000; i++) read()
      grown += Math.max(0, measure() - before)
    }
    console.log(grown)`)
  if (growsOld) expect(grown).toBeGreaterThan(60_000_000)
  else expect(grown).toBeLessThan(30_000_000)
})

it.each([
  ['without it', '', false],
  ['with it', 'keepYoungSpaceLarge()', true],
])(
  'the young space of a thread starts with 32 MiB, below which it does not shrink: %s',
  async (_name, keep, isLarge) => {
    const [bytes] = await runProgram(`
    import { Worker } from 'node:worker_threads'
    import { keepYoungSpaceLarge } from ${source('v8-tuning.ts')}
    ${keep}
    new Worker(\`
      const { getHeapSpaceStatistics } = process.getBuiltinModule('node:v8')
      console.log(getHeapSpaceStatistics().find((space) => space.space_name === 'new_space').space_size)
    \`, { eval: true })`)
    expect(Number(bytes) >= 32 * 2 ** 20).toBe(isLarge)
  },
)
