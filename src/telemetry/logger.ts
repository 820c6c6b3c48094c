import { pino } from 'pino'
import type { LogFields, Logger } from '../ports/runtime.ts'
import { openLineOutput } from './standard-output.ts'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

export interface ProcessLogger extends Logger {
  /** Tries to write what a slow reader has left. Also happens when the process or thread exits. */
  flush(): void
}

const DEPTH_MAX = 6
const ENTRIES_MAX = 100
const CENSORED = '[redacted]'

/** Compared without case, `-` and `_`; a longer name that ends in one of them is one of them too. */
const SECRET_NAMES = [
  'token',
  'authorization',
  'cookie',
  'apikey',
  'password',
  'passwd',
  'secret',
  'privatekey',
]
const RESERVED_NAMES = ['level', 'time', 'msg', 'thread']
/** Valid in JSON, but moves a terminal's cursor, reorders its text or breaks its lines. */
const UNSAFE_IN_TERMINALS = /[\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g
const USER_INFO_IN_URL = /\/\/[^/@\s]*:[^/@\s]*@/g

/**
 * JSON lines with `time` (ISO 8601), `level` and `msg`. Any thread may have its own, on the same
 * descriptor. Fields whose names tell of a secret are redacted at any depth, and so is the user
 * information of URLs; messages are constants and are left alone.
 */
export function createLogger(
  options: {
    readonly level?: LogLevel
    /** Which thread speaks, for example `control` or `data-plane-1`. */
    readonly thread?: string
    /** Standard output unless told otherwise. */
    readonly fd?: number
  } = {},
): ProcessLogger {
  const output = openLineOutput(options.fd ?? 1)
  process.on('exit', output.finish)

  const escaping = { write: (line: string) => output.write(line.replace(UNSAFE_IN_TERMINALS, toEscape)) }
  const log = pino(
    {
      level: options.level ?? 'info',
      base: options.thread === undefined ? null : { thread: options.thread },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
    },
    escaping,
  )
  return {
    debug: (message, fields) => log.debug(toSafeFields(fields), message),
    info: (message, fields) => log.info(toSafeFields(fields), message),
    warn: (message, fields) => log.warn(toSafeFields(fields), message),
    error: (message, fields) => log.error(toSafeFields(fields), message),
    flush: output.flush,
  }
}

function toEscape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}

function toSafeFields(fields: LogFields | undefined): Record<string, unknown> {
  const safe: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(fields ?? {})) {
    safe[RESERVED_NAMES.includes(name) ? `${name}_` : name] = isSecret(name) ? CENSORED : toSafe(value, 1)
  }
  return safe
}

function isSecret(name: string): boolean {
  const plain = name.toLowerCase().replaceAll(/[-_]/g, '')
  return SECRET_NAMES.some((secret) => plain.endsWith(secret))
}

/** A copy that holds no secret, ends at a depth and a number of entries, and can be made JSON. */
function toSafe(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return value.replace(USER_INFO_IN_URL, `//${CENSORED}@`)
  if (typeof value === 'bigint' || typeof value === 'symbol') return String(value)
  if (typeof value === 'function') return '[function]'
  if (typeof value !== 'object' || value === null) return value
  if (depth > DEPTH_MAX) return '[deeper]'
  if (value instanceof Error) return toSafeError(value, depth)
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString()
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`
  if (value instanceof Map) return toSafe(Object.fromEntries(value), depth)
  if (value instanceof Set) return toSafe([...value], depth)
  if (Array.isArray(value)) return value.slice(0, ENTRIES_MAX).map((entry) => toSafe(entry, depth + 1))
  const entries = Object.entries(value).slice(0, ENTRIES_MAX)
  return Object.fromEntries(
    entries.map(([name, entry]) => [name, isSecret(name) ? CENSORED : toSafe(entry, depth + 1)]),
  )
}

function toSafeError(error: Error, depth: number): Record<string, unknown> {
  const { name, message, stack, cause } = error
  const safe: Record<string, unknown> = {
    type: name,
    message: toSafe(message, depth),
    stack: toSafe(stack, depth),
  }
  if ('code' in error) safe['code'] = toSafe(error.code, depth)
  if (cause !== undefined) safe['cause'] = toSafe(cause, depth + 1)
  return safe
}
