import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FrontState, FrontStream } from './connection.ts'

/*
 * What Node tells, passed on to the stream. The same functions serve every request and find their
 * stream on the object they listen to.
 */

interface StreamListener {
  onData(chunk: Buffer): void
  onRequestEnd(): void
  onDrain(): void
  onFinish(): void
  onClose(): void
}

const STREAM: unique symbol = Symbol('stream')

interface Attached {
  [STREAM]?: StreamListener
}

export function listen(request: IncomingMessage, answer: ServerResponse, stream: StreamListener): void {
  const attachedRequest: Attached = request as Attached
  const attachedAnswer: Attached = answer as Attached
  attachedRequest[STREAM] = stream
  attachedAnswer[STREAM] = stream
  request.on('error', ignore)
  answer.on('error', ignore)
  answer.on('drain', onAnswerDrain)
  answer.on('finish', onAnswerFinish)
  answer.on('close', onAnswerClose)
}

export function listenToBody(request: IncomingMessage): void {
  request.on('data', onRequestData)
  request.on('end', onRequestEnd)
}

function onRequestData(this: Attached, chunk: Buffer): void {
  this[STREAM]?.onData(chunk)
}

function onRequestEnd(this: Attached): void {
  this[STREAM]?.onRequestEnd()
}

function onAnswerDrain(this: Attached): void {
  this[STREAM]?.onDrain()
}

function onAnswerFinish(this: Attached): void {
  this[STREAM]?.onFinish()
}

function onAnswerClose(this: Attached): void {
  this[STREAM]?.onClose()
}

/** Sends the head at the end of this turn of the event loop, unless the whole answer comes before. */
export function hold(state: FrontState, stream: FrontStream): void {
  state.held.push(stream)
  if (state.isFlushScheduled) return
  state.isFlushScheduled = true
  process.nextTick(flushHeld, state)
}

function flushHeld(state: FrontState): void {
  state.isFlushScheduled = false
  for (const stream of state.held.splice(0)) stream.flushHead()
}

function ignore(): void {}
