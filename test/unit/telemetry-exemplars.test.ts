import { expect, it } from 'vitest'
import { exemplarBytes, openExemplars } from '../../src/telemetry/exemplars.ts'

const SLOTS = 3
const traceOf = (digit: string) => digit.repeat(32)
const traceparent = (digit: string, flags = '01') => `00-${traceOf(digit)}-${'1'.repeat(16)}-${flags}`

function open(threads = 1) {
  const buffer = new SharedArrayBuffer(threads * exemplarBytes(SLOTS))
  return (thread: number) => openExemplars(buffer, thread * exemplarBytes(SLOTS), SLOTS)
}

it('keeps the trace of a request, for whoever looks from another thread', () => {
  const view = open()
  view(0).keep(1, traceparent('f'), 0.25, 5000)
  expect(view(0).find(1)).toEqual({ traceId: traceOf('f'), seconds: 0.25, timeMs: 5000 })
  expect(view(0).find(0)).toBeUndefined()
  expect(view(0).find(2)).toBeUndefined()
})

it('leaves traces alone that nobody records', () => {
  const exemplars = open()(0)
  exemplars.keep(1, traceparent('a', '00'), 1, 5000)
  expect(exemplars.find(1)).toBeUndefined()
})

it('writes a slot once a second at most', () => {
  const exemplars = open()(0)
  exemplars.keep(1, traceparent('a'), 1, 5000)
  exemplars.keep(1, traceparent('b'), 2, 5999)
  expect(exemplars.find(1)?.traceId).toBe(traceOf('a'))
  exemplars.keep(1, traceparent('c'), 3, 6000)
  expect(exemplars.find(1)).toEqual({ traceId: traceOf('c'), seconds: 3, timeMs: 6000 })
})

it('shows nothing of a slot that is being written, and recovers from a thread that died there', () => {
  const buffer = new SharedArrayBuffer(exemplarBytes(SLOTS))
  const exemplars = openExemplars(buffer, 0, SLOTS)
  exemplars.keep(0, traceparent('a'), 1, 5000)
  new Int32Array(buffer)[0] = 3
  expect(exemplars.find(0)).toBeUndefined()
  exemplars.keep(0, traceparent('b'), 2, 7000)
  expect(exemplars.find(0)?.traceId).toBe(traceOf('b'))
})

it('keeps the regions of threads apart', () => {
  const view = open(2)
  view(0).keep(2, traceparent('a'), 1, 5000)
  view(1).keep(0, traceparent('b'), 1, 5000)
  expect(view(0).find(2)?.traceId).toBe(traceOf('a'))
  expect(view(1).find(0)?.traceId).toBe(traceOf('b'))
  expect(view(0).find(0)).toBeUndefined()
})
