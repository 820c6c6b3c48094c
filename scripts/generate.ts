// `npm run generate`: writes every file that is made from the code. A test says when one is out of date.
import { writeFileSync } from 'node:fs'
import { generateFiles } from './generated/files.ts'

for (const [file, text] of await generateFiles()) {
  writeFileSync(new URL(`../${file}`, import.meta.url), text)
  console.log(`wrote ${file}`)
}
