import { get } from 'node:http'
import { parseArgs } from 'node:util'
import packageJson from '../package.json' with { type: 'json' }
import { createAdminServiceKey } from './app/service-keys.ts'
import { openConfigFile } from './config/config-file.ts'
import { toJsonSchema } from './config/json-schema.ts'
import { type LoadResult, loadConfig } from './config/load.ts'
import { formatProblem } from './config/problem.ts'
import type { Config } from './config/schema.ts'
import { runDemo } from './demo.ts'
import { errorText } from './domain/errors.ts'
import { ROLE_NAME } from './domain/service-key.ts'
import { type Gateway, startGateway } from './gateway.ts'
import { openCommandStore } from './stores/command-store.ts'
import { createLogger } from './telemetry/logger.ts'
import { createClockAnchor, createSystemClock, systemRandom } from './telemetry/system-clock.ts'

/** The command line: contract section 2. Only this file reads arguments, signals and sets exit codes. */

const USAGE = `dripgate ${packageJson.version}: a reverse-proxy rate-limiting gateway

Usage:
  dripgate serve   [--config FILE]   run the gateway
  dripgate check   [--config FILE]   validate the configuration only; exit 0 or 78
  dripgate schema                    print the JSON Schema of the configuration file
  dripgate service-keys create [--admin] [--role SCRIPT] [--description TEXT] [--config FILE]
                                     mint a service key straight into the store and print it once
  dripgate demo                      run the gateway with a demo upstream, keyspace, key and route
  dripgate health  [--config FILE]   exit 0 if the gateway is ready, else 1
  dripgate version | help

The configuration is read from --config, else DRIPGATE_CONFIG, else config/gateway.yaml.
Signals: SIGTERM and SIGINT drain and stop, a second one stops at once; SIGHUP reloads the configuration.
`

const EXIT_FAILURE = 1
const EXIT_USAGE = 2
const EXIT_CONFIG = 78
const HEALTH_TIMEOUT_MS = 3_000
/** A terminal's Ctrl-C and a launcher may both deliver the same signal; people are not as quick. */
const SAME_SIGNAL_MS = 150

/** Ends the process with a code, after one line that says why. */
class Exit extends Error {
  readonly code: number

  constructor(code: number, message = '') {
    super(message)
    this.code = code
  }
}

try {
  await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof Exit)) throw error
  if (error.message !== '') process.stderr.write(`${error.message}\n`)
  // Not by exitCode: a channel to the launcher would keep the process alive.
  process.exit(error.code)
}

async function main(args: readonly string[]): Promise<void> {
  const { values, positionals } = parseCommandLine(args)
  const [command = 'help', ...rest] = positionals
  if (values.help || command === 'help') return void process.stdout.write(USAGE)
  if (values.version || command === 'version') return void process.stdout.write(`${packageJson.version}\n`)
  const commandName = [command, ...rest].join(' ')
  const file = values.config ?? (process.env['DRIPGATE_CONFIG'] || 'config/gateway.yaml')
  switch (commandName) {
    case 'serve':
      return serve(file)
    case 'check':
      requireConfig(file)
      return void process.stdout.write(`${file}: ok\n`)
    case 'schema':
      return void process.stdout.write(`${JSON.stringify(toJsonSchema(), null, 2)}\n`)
    case 'service-keys create':
      return createServiceKey(file, {
        admin: values.admin,
        roles: requireRoles(values.role),
        description: values.description,
      })
    case 'demo':
      return demo()
    case 'health':
      return checkHealth(file)
    default:
      throw new Exit(EXIT_USAGE, `dripgate: unknown command "${commandName}". Try: dripgate help`)
  }
}

function parseCommandLine(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        config: { type: 'string', short: 'c' },
        admin: { type: 'boolean', default: false },
        role: { type: 'string', multiple: true, default: [] },
        description: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
        version: { type: 'boolean', short: 'v', default: false },
      },
    })
  } catch (error) {
    throw new Exit(EXIT_USAGE, `dripgate: ${errorText(error)}. Try: dripgate help`)
  }
}

function requireRoles(roles: readonly string[]): readonly string[] {
  const wrong = roles.find((role) => !ROLE_NAME.test(role))
  if (wrong === undefined) return [...new Set(roles)]
  throw new Exit(EXIT_USAGE, 'dripgate: --role must be 1 to 32 uppercase letters or "_", such as SCRIPT')
}

function requireConfig(file: string): Config {
  return requireValid(loadConfig({ file, env: process.env }))
}

function requireValid(result: LoadResult): Config {
  if (result.kind === 'ok') return result.config
  throw new Exit(EXIT_CONFIG, result.problems.map(formatProblem).join('\n'))
}

async function serve(file: string): Promise<void> {
  const logger = createLogger({ thread: 'control' })
  const signals = watchSignals()
  const { gateway } = await start(file, logger)
  signals.follow({
    stop: (signal) => stop(gateway, signal, logger),
    reload: () => void gateway.reload(),
  })
  logger.info('ready', {
    gateway: gateway.gatewayUrl,
    admin: gateway.adminUrl,
    threads: gateway.threads.count(),
    config: file,
    version: packageJson.version,
    pid: process.pid,
  })
}

async function start(
  file: string,
  logger: ReturnType<typeof createLogger>,
): Promise<{ readonly gateway: Gateway; readonly config: Config }> {
  const source = openConfigFile({ file, env: process.env })
  const config = requireValid(source.read())
  const onFatal = (error: Error) => {
    logger.error('the gateway cannot go on', { error })
    process.exit(EXIT_FAILURE)
  }
  try {
    const gateway = await startGateway({ config, source, logger, version: packageJson.version, onFatal })
    return { gateway, config }
  } catch (error) {
    throw new Exit(EXIT_FAILURE, `dripgate: ${errorText(error)}`)
  }
}

interface Signals {
  /** Does what was asked for meanwhile, and whatever is from now on. */
  follow(actions: { readonly stop: (signal: string) => void; readonly reload: () => void }): void
}

/** From now on no signal ends the process by itself, but a second request to stop does. */
function watchSignals(): Signals {
  const { promise: started, resolve: begin } = Promise.withResolvers<Parameters<Signals['follow']>[0]>()
  let first: { readonly signal: string; readonly atMs: number } | undefined
  const requestStop = (signal: string) => {
    if (first === undefined) {
      first = { signal, atMs: performance.now() }
      void started.then((actions) => actions.stop(signal))
    } else if (signal !== first.signal || performance.now() - first.atMs > SAME_SIGNAL_MS) {
      process.exit(EXIT_FAILURE)
    }
  }
  process.on('SIGTERM', () => requestStop('SIGTERM'))
  process.on('SIGINT', () => requestStop('SIGINT'))
  process.on('SIGHUP', () => void started.then((actions) => actions.reload()))
  // The launcher that started this process is gone, without having passed on a signal.
  if (process.env['DRIPGATE_LAUNCHER'] === '1') {
    process.once('disconnect', () => requestStop('disconnect'))
    if (!process.connected) requestStop('disconnect')
  }
  return { follow: begin }
}

function stop(gateway: Gateway, signal: string, logger: ReturnType<typeof createLogger>): void {
  logger.info('stopping', { signal })
  gateway.stop().then(
    () => {
      logger.info('stopped')
      process.exit(0)
    },
    (error: unknown) => {
      logger.error('the gateway did not stop cleanly', { error })
      process.exit(EXIT_FAILURE)
    },
  )
}

async function demo(): Promise<void> {
  const logger = createLogger({ thread: 'control', level: 'warn' })
  const signals = watchSignals()
  const { gateway, upstream } = await runDemo({
    start: (file) => start(file, logger),
    print: (text) => process.stdout.write(text),
  }).catch((error: unknown) => {
    throw error instanceof Exit ? error : new Exit(EXIT_FAILURE, `dripgate: ${errorText(error)}`)
  })
  const demoGateway = { ...gateway, stop: () => gateway.stop().finally(() => upstream.close()) }
  signals.follow({
    stop: (signal) => stop(demoGateway, signal, logger),
    reload: () => void gateway.reload(),
  })
}

async function createServiceKey(
  file: string,
  options: {
    readonly admin: boolean
    readonly roles: readonly string[]
    readonly description: string | undefined
  },
): Promise<void> {
  const config = requireConfig(file)
  try {
    const keyStore = await openCommandStore(config, createLogger({ thread: 'control', level: 'warn' }))
    const deps = { keyStore, clock: createSystemClock(createClockAnchor()), random: systemRandom }
    const description = options.description ?? 'created by the command line'
    const { admin, roles } = options
    const created = await createAdminServiceKey(deps, { admin, roles, description })
    keyStore.close()
    process.stderr.write(`Service key ${created.skid} created. Its token is shown only this once:\n`)
    process.stdout.write(`${created.token}\n`)
  } catch (error) {
    throw new Exit(EXIT_FAILURE, `dripgate: ${errorText(error)}`)
  }
}

async function checkHealth(file: string): Promise<void> {
  const { host, port } = requireConfig(file).admin.listen
  const reachable = host === '0.0.0.0' || host === '::' ? 'localhost' : host
  const status = await new Promise<number | string>((resolve) => {
    const request = get(
      { host: reachable, port, path: '/readyz', timeout: HEALTH_TIMEOUT_MS },
      (response) => {
        response.resume()
        resolve(response.statusCode ?? 0)
      },
    )
    request.on('timeout', () => request.destroy(new Error(`no answer within ${HEALTH_TIMEOUT_MS} ms`)))
    request.on('error', (error) => resolve(error.message))
  })
  if (status !== 200) throw new Exit(EXIT_FAILURE, `not ready: http://${reachable}:${port}/readyz: ${status}`)
  process.stdout.write('ready\n')
}
