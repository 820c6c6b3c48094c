import { request } from 'node:http'
import { pathToFileURL } from 'node:url'

/**
 * Runs the public suite against a base URL and prints its results as JSON: a process for each
 * cache, as the suite keeps its results in its modules. `node cache-client.ts SUITE BASE`.
 */

interface Suite {
  readonly id: string
  readonly name: string
  readonly tests: readonly { readonly id: string; readonly name: string; readonly kind?: string }[]
}

interface Init {
  readonly method?: string
  readonly headers?: readonly (readonly [string, unknown])[]
  readonly body?: string
}

const [suite = '', base = ''] = process.argv.slice(2)
const load = async (file: string): Promise<Record<string, unknown>> =>
  (await import(pathToFileURL(`${suite}/${file}`).href)) as Record<string, unknown>
const { runTests, getResults } = (await load('client/runner.mjs')) as {
  runTests(tests: unknown, fetch: unknown, isBrowser: boolean, base: string): Promise<void>
  getResults(): Record<string, unknown>
}
const suites = (await load('tests/index.mjs'))['default'] as readonly Suite[]
// It reports what it does on standard output.
console.log = () => {}
await runTests(suites, send, false, base)
process.stdout.write(JSON.stringify({ suites: suites.map(describe), results: getResults() }))

function describe({ id, name, tests }: Suite) {
  return { id, name, tests: tests.map((test) => ({ id: test.id, name: test.name, kind: test.kind })) }
}

/** What the suite needs of `fetch`, without the fields and the cache rules of a browser. */
function send(url: string, { method = 'GET', headers = [], body }: Init = {}): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { method, agent: false, timeout: 20_000 }, (answer) => {
      const chunks: Buffer[] = []
      answer.on('data', (chunk: Buffer) => chunks.push(chunk))
      answer.on('error', reject)
      answer.on('end', () => {
        const text = Buffer.concat(chunks).toString()
        const fields = new Headers()
        for (let i = 0; i < answer.rawHeaders.length; i += 2) {
          fields.append(answer.rawHeaders[i] ?? '', answer.rawHeaders[i + 1] ?? '')
        }
        const status = answer.statusCode ?? 0
        resolve({
          ...{ status, statusText: answer.statusMessage, ok: status < 300, headers: fields, url },
          text: async () => text,
          json: async () => JSON.parse(text),
        })
      })
    })
    const lines = new Map<string, string[]>()
    for (const [name, value] of headers) {
      const key = name.toLowerCase()
      lines.set(key, [...(lines.get(key) ?? []), String(value)])
    }
    for (const [name, values] of lines) asked.setHeader(name, values)
    asked.on('timeout', () => asked.destroy(new Error('timeout')))
    asked.on('error', reject)
    asked.end(body)
  })
}
