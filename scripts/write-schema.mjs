/** Writes config/gateway.schema.json from the schema. Run it after a change of src/config/*schema.ts. */
import { writeFileSync } from 'node:fs'
import { toJsonSchema } from '../src/config/json-schema.ts'

const file = new URL('../config/gateway.schema.json', import.meta.url)
writeFileSync(file, `${JSON.stringify(toJsonSchema(), null, 2)}\n`)
