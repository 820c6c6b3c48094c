/**
 * W3C Trace Context: `VERSION-TRACE_ID-PARENT_ID-FLAGS`, each in lowercase hex of 1, 16, 8 and 1
 * bytes. Later versions may add to the end.
 */

const LENGTH = 55
const TRACE_ID_AT = 3
const PARENT_ID_AT = 36
const FLAGS_AT = 53
const DASH = 0x2d
/** Sampled, and made of random digits. */
const KNOWN_FLAGS = 3
const NO_TRACE = '0'.repeat(32)
const NO_PARENT = '0'.repeat(16)

/** Whether it may be passed on; anything else is replaced, and its `tracestate` dropped. */
export function isTraceparent(text: string): boolean {
  if (text.length < LENGTH) return false
  const isKnownVersion = text.startsWith('00')
  if (text.length > LENGTH && (isKnownVersion || text.charCodeAt(LENGTH) !== DASH)) return false
  for (let at = 0; at < LENGTH; at++) {
    const isDashed = at === 2 || at === 35 || at === 52
    if (isDashed ? text.charCodeAt(at) !== DASH : !isHexDigit(text.charCodeAt(at))) return false
  }
  return (
    !text.startsWith('ff') &&
    !text.startsWith(NO_TRACE, TRACE_ID_AT) &&
    !text.startsWith(NO_PARENT, PARENT_ID_AT)
  )
}

/** The trace id of a sound traceparent. */
export function toTraceId(traceparent: string): string {
  return traceparent.slice(TRACE_ID_AT, TRACE_ID_AT + NO_TRACE.length)
}

/** The id of the span, of a sound traceparent, under which its receiver works. */
export function toParentId(traceparent: string): string {
  return traceparent.slice(PARENT_ID_AT, PARENT_ID_AT + NO_PARENT.length)
}

/** What a span of this trace sends on: the flags that are defined are kept, others are not ours to set. */
export function withParentId(traceparent: string, spanId: string): string {
  const flags = Number.parseInt(traceparent.charAt(FLAGS_AT + 1), 16) & KNOWN_FLAGS
  return `00-${toTraceId(traceparent)}-${spanId}-0${flags}`
}

/** Whether whoever began the trace keeps it, so that it can be looked up. */
export function isSampled(traceparent: string): boolean {
  const digit = traceparent.charCodeAt(FLAGS_AT + 1)
  // Of 0 to 9 the odd ones have odd codes; of a to f the even ones have.
  return digit > 0x39 ? (digit & 1) === 0 : (digit & 1) === 1
}

function isHexDigit(code: number): boolean {
  return (code >= 0x30 && code <= 0x39) || (code >= 0x61 && code <= 0x66)
}
