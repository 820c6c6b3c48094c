import fs from 'node:fs'
import { toDecimal, toThreeDigits } from '../domain/decimal.ts'
import { toTraceId } from '../domain/traceparent.ts'
import type { FinishedExchange } from '../ports/runtime.ts'
import { openWithoutBlocking, PIPE_CHUNK_BYTES } from './standard-output.ts'

/** The access log of one data-plane thread. */
export interface AccessLog {
  /** Never waits and never throws; the line is written within a quarter of a second. */
  write(exchange: FinishedExchange): void
  /** Lines that were given up, since the log was opened, because they could not be written. */
  linesDropped(): number
  /** Writes out what is still in memory, as far as that is possible without waiting. */
  close(): void
}

const FILE_CHUNK_BYTES = 64 * 1024
const FLUSH_AFTER_MS = 250
/** When the reader has not kept up. */
const RETRY_AFTER_MS = 20
/** Whole lines that wait for a slow disk or reader; later lines are dropped. */
const PENDING_BYTES_MAX = 1024 * 1024
/** Together with the fields below and the frame, a line stays under `PIPE_CHUNK_BYTES`. */
const PATH_BYTES_MAX = 2048
const FIELD_BYTES_MAX = 256

interface Chunk {
  readonly bytes: Buffer
  readonly lines: number
}

/**
 * `output` is `stdout` or a file, to which lines are appended; throws where it cannot be opened.
 * Each thread opens its own, and their lines do not mix.
 */
export function openAccessLog(output: string): AccessLog {
  const toFile = output !== 'stdout'
  const chunkBytesMax = toFile ? FILE_CHUNK_BYTES : PIPE_CHUNK_BYTES
  const queue: Chunk[] = []
  const fd = toFile ? openFile(output) : openWithoutBlocking(1)
  const formatTime = createTimeFormat()
  /** Lines are put here as they come, for a long text made of small ones is dear to take apart. */
  let room = Buffer.allocUnsafeSlow(chunkBytesMax)
  let length = 0
  let lines = 0
  let queuedBytes = 0
  let dropped = 0
  let writing = false
  let closed = false
  let timer: NodeJS.Timeout | undefined

  return { write, close, linesDropped: () => dropped }

  function write(exchange: FinishedExchange): void {
    const line = formatLine(exchange, formatTime(exchange.startMs))
    if (length + line.length > chunkBytesMax) enqueue()
    if (closed || queuedBytes + line.length > PENDING_BYTES_MAX) {
      dropped += 1
      return
    }
    room.write(line, length, 'latin1')
    length += line.length
    lines += 1
    if (timer === undefined) timer = setTimeout(flush, FLUSH_AFTER_MS).unref()
  }

  function enqueue(): void {
    if (lines === 0) return
    queue.push({ bytes: room.subarray(0, length), lines })
    queuedBytes += length
    room = Buffer.allocUnsafeSlow(chunkBytesMax)
    length = 0
    lines = 0
    writeNext()
  }

  function flush(): void {
    timer = undefined
    enqueue()
    writeNext()
  }

  /** One write at a time, so that lines stay in order and a slow disk costs one pool thread. */
  function writeNext(): void {
    if (writing) return
    const chunk = queue[0]
    if (chunk === undefined) return
    writing = true
    fs.write(fd, chunk.bytes, 0, chunk.bytes.length, null, (error, written) => {
      writing = false
      if (closed) return closeDescriptor(fd)
      if (error?.code === 'EAGAIN') return retryLater()
      settle(chunk, error === null ? written : undefined)
      writeNext()
    })
  }

  function retryLater(): void {
    clearTimeout(timer)
    timer = setTimeout(flush, RETRY_AFTER_MS).unref()
  }

  /** `written` is undefined when the write failed; the chunk is lost then. */
  function settle(chunk: Chunk, written: number | undefined): void {
    if (written !== undefined && written < chunk.bytes.length) {
      queue[0] = { bytes: chunk.bytes.subarray(written), lines: chunk.lines }
      queuedBytes -= written
      return
    }
    queue.shift()
    queuedBytes -= chunk.bytes.length
    if (written === undefined) dropped += chunk.lines
  }

  function close(): void {
    clearTimeout(timer)
    if (lines > 0) queue.push({ bytes: room.subarray(0, length), lines })
    length = 0
    lines = 0
    // The system finishes a write that is under way; its chunk is not ours any more.
    for (const chunk of writing ? queue.slice(1) : queue) writeAtOnce(chunk)
    queue.length = writing ? 1 : 0
    closed = true
    if (!writing) closeDescriptor(fd)
  }

  function writeAtOnce(chunk: Chunk): void {
    try {
      fs.writeSync(fd, chunk.bytes)
    } catch {
      dropped += chunk.lines
    }
  }
}

/** Standard output belongs to the process. */
function closeDescriptor(fd: number): void {
  if (fd > 2) fs.close(fd, () => {})
}

function openFile(file: string): number {
  return fs.openSync(file, 'a', 0o640)
}

/** ASCII only, so that its length is its number of bytes. */
function formatLine(exchange: FinishedExchange, time: string): string {
  const queryAt = exchange.path.indexOf('?')
  const path = queryAt === -1 ? exchange.path : exchange.path.slice(0, queryAt)
  return (
    `{"time":"${time}","level":"info","msg":"request"` +
    `,"request_id":${quote(exchange.requestId, FIELD_BYTES_MAX)}` +
    `,"trace_id":"${exchange.traceparent === undefined ? '' : toTraceId(exchange.traceparent)}"` +
    `,"client":${quote(exchange.remoteAddress, FIELD_BYTES_MAX)}` +
    `,"method":${quote(exchange.method, FIELD_BYTES_MAX)}` +
    `,"path":${quote(path, PATH_BYTES_MAX)}` +
    `,"route":${quote(exchange.routeName, FIELD_BYTES_MAX)}` +
    `,"decision":"${exchange.decision}"` +
    `,"key_id":${quote(exchange.kid, FIELD_BYTES_MAX)}` +
    `,"status":${exchange.status}` +
    `,"duration_ms":${formatMs(exchange.durationMs)}` +
    `,"upstream":${quote(exchange.upstreamName, FIELD_BYTES_MAX)}` +
    `,"upstream_ms":${exchange.upstreamMs < 0 ? 'null' : formatMs(exchange.upstreamMs)}` +
    (exchange.cacheOutcome === undefined ? '' : `,"cache":"${exchange.cacheOutcome}"`) +
    `,"bytes_in":${toDecimal(exchange.bytesIn)},"bytes_out":${toDecimal(exchange.bytesOut)}` +
    `,"aborted":${exchange.aborted}}\n`
  )
}

/** ISO 8601 in UTC; most lines begin in the second of the one before. */
function createTimeFormat(): (ms: number) => string {
  let secondMs = Number.NaN
  let prefix = ''
  return (ms) => {
    if (!Number.isFinite(ms)) return ''
    const sinceMs = Math.floor(ms) - secondMs
    if (sinceMs >= 0 && sinceMs < 1000) return `${prefix}${toThreeDigits(sinceMs)}Z`
    secondMs = Math.floor(ms / 1000) * 1000
    prefix = new Date(secondMs).toISOString().slice(0, -4)
    return `${prefix}${toThreeDigits(Math.floor(ms) - secondMs)}Z`
  }
}

/** With three digits behind the point. */
function formatMs(ms: number): string {
  if (!Number.isFinite(ms)) return 'null'
  const us = Math.round(ms * 1000)
  return us < 0 ? '0.000' : `${toDecimal(Math.floor(us / 1000))}.${toThreeDigits(us % 1000)}`
}

/** A JSON string of at most `bytesMax` and two bytes; what is cut off leaves `...`. */
function quote(text: string, bytesMax: number): string {
  if (text.length <= bytesMax && isPlain(text)) return `"${text}"`
  let quoted = ''
  const wellFormed = text.toWellFormed()
  for (let at = 0; at < wellFormed.length; at++) {
    const next = escapeUnit(wellFormed.charCodeAt(at))
    if (quoted.length + next.length > bytesMax - 3) return `"${quoted}..."`
    quoted += next
  }
  return `"${quoted}"`
}

const QUOTE = 0x22
const BACKSLASH = 0x5c

/** Visible ASCII that means nothing in JSON. */
function isPlainUnit(unit: number): boolean {
  return unit >= 0x20 && unit <= 0x7e && unit !== QUOTE && unit !== BACKSLASH
}

function isPlain(text: string): boolean {
  for (let at = 0; at < text.length; at++) {
    if (!isPlainUnit(text.charCodeAt(at))) return false
  }
  return true
}

function escapeUnit(unit: number): string {
  if (isPlainUnit(unit)) return String.fromCharCode(unit)
  if (unit === QUOTE) return '\\"'
  if (unit === BACKSLASH) return '\\\\'
  return `\\u${unit.toString(16).padStart(4, '0')}`
}
