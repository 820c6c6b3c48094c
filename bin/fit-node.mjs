// Finds a Node that runs TypeScript as it is, and runs programs with it. This file and its two
// users must load on any Node from 14.18 on: plain JavaScript, no newer syntax.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { constants } from 'node:os'
import path from 'node:path'

const OLDEST_FIT = [24, 15]
const FORWARDED_SIGNALS = ['SIGHUP', 'SIGINT', 'SIGTERM', 'SIGUSR2']

/** Whether the running Node is new enough. */
export function isRunningNodeFit() {
  const [major, minor] = process.versions.node.split('.').map(Number)
  return major > OLDEST_FIT[0] || (major === OLDEST_FIT[0] && minor >= OLDEST_FIT[1])
}

/**
 * The path of a fit Node: the running one, else the one in the optional dependencies. `undefined`
 * where there is neither. The path is resolved and not looked up in PATH or node_modules/.bin:
 * npm 10 does not link a bin that two packages share.
 */
function findFitNode() {
  if (isRunningNodeFit()) return process.execPath
  const require = createRequire(import.meta.url)
  try {
    const manifest = require.resolve(`node-${process.platform}-${process.arch}/package.json`)
    const bundled = path.join(path.dirname(manifest), 'bin', 'node')
    return existsSync(bundled) ? bundled : undefined
  } catch {
    return undefined
  }
}

/** As `findFitNode`; where there is none, says in one line what to install and exits 1. */
export function requireFitNode() {
  const node = findFitNode()
  if (node !== undefined) return node
  console.error(
    `dripgate needs Node.js ${OLDEST_FIT.join('.')} or newer (this is ${process.version}): install Node.js 24, or on Linux (x64, arm64) run "npm ci" without --omit=optional.`,
  )
  process.exit(1)
}

/**
 * Runs `node args` with this process's streams, passes signals on to it, and ends as it ends: with
 * its exit code, or by its signal. With `watched`, the child has an IPC channel and the variable
 * DRIPGATE_LAUNCHER=1: when this process is killed, the child gets `disconnect` and must stop.
 */
export function runWithNode(node, args, { watched = false } = {}) {
  const env = { ...process.env, PATH: path.dirname(node) + path.delimiter + (process.env.PATH || '') }
  if (watched) env.DRIPGATE_LAUNCHER = '1'
  const stdio = ['inherit', 'inherit', 'inherit']
  if (watched) stdio.push('ipc')
  const child = spawn(node, args, { stdio, env })
  for (const signal of FORWARDED_SIGNALS) process.on(signal, () => child.kill(signal))
  child.on('error', (error) => {
    console.error(`dripgate: cannot run ${node}: ${error.message}`)
    process.exit(1)
  })
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
    // The signal ends this process at the latest now; where it is ignored, the code still tells it.
    setTimeout(() => process.exit(128 + constants.signals[signal]), 1000)
  })
}
