import { readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'
import { generateFiles } from '../../scripts/generated/files.ts'

const ROOT = path.resolve(import.meta.dirname, '../..')

it.each([...(await generateFiles())])('%s says what the code says', (file, text) => {
  const isUpToDate = readFileSync(path.join(ROOT, file), 'utf8') === text
  expect(isUpToDate, `${file} is out of date. Run: npm run generate`).toBe(true)
})
