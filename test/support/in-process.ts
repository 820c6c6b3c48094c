import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { ReloadOutcome } from '../../src/app/management.ts'
import { type LoadResult, loadConfig } from '../../src/config/load.ts'
import { type Gateway, startGateway } from '../../src/gateway.ts'
import { createFakeLogger } from './fakes.ts'
import { ROOT_TOKEN } from './gateway.ts'

/** A whole gateway inside the test's process, for tests that need to reach its threads. */
export interface InProcessGateway extends AsyncDisposable {
  readonly gateway: Gateway
  readonly logger: ReturnType<typeof createFakeLogger>
  readonly directory: string
  reload(config: Readonly<Record<string, unknown>>): Promise<ReloadOutcome>
  rpc(name: string, params: unknown): Promise<{ status: number; body: unknown }>
}

export async function startInProcess(config: Readonly<Record<string, unknown>>): Promise<InProcessGateway> {
  const directory = mkdtempSync(path.join(tmpdir(), 'dripgate-test-'))
  const logger = createFakeLogger()
  const load = (raw: Readonly<Record<string, unknown>>): LoadResult => {
    const text = JSON.stringify({
      ...raw,
      admin: { listen: '127.0.0.1:0', root_token: ROOT_TOKEN },
      store: { path: directory },
    })
    return loadConfig({
      file: 'test.yaml',
      env: {},
      readFile: (file) => (file === 'test.yaml' ? text : readFileSync(file, 'utf8')),
    })
  }
  const loaded = load(config)
  if (loaded.kind === 'invalid') throw new Error(loaded.problems[0]?.message)
  let next = config
  const gateway = await startGateway({
    config: loaded.config,
    source: { read: () => load(next), watch: () => () => {} },
    logger,
    version: 'test',
    onFatal: (error) => {
      throw error
    },
  })
  return {
    gateway,
    logger,
    directory,
    reload(config) {
      next = config
      return gateway.reload()
    },
    async rpc(name, params) {
      const answer = await fetch(`${gateway.adminUrl}/v1/${name}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${ROOT_TOKEN}`, 'content-type': 'application/json' },
        body: JSON.stringify(params),
      })
      return { status: answer.status, body: await answer.json() }
    },
    async [Symbol.asyncDispose]() {
      await gateway.stop()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

export async function until(done: () => boolean | Promise<boolean>, withinMs = 10_000): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!(await done())) {
    if (performance.now() > deadline) throw new Error(`it did not happen within ${withinMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
