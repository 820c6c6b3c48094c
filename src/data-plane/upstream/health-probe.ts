import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { toConnectOptions } from './node-http.ts'
import type { Origin } from './origin.ts'

export interface ProbeRule {
  readonly path: string
  /** Value of the Host field; the target's own where it is left out. */
  readonly host: string | undefined
  /** For the whole probe, in milliseconds. */
  readonly timeoutMs: number
  /** Whether an answer with this status is a good one. */
  readonly isGood: (status: number) => boolean
}

/** `cause`: what is wrong, for the log; `undefined` where all is well. */
export type ProbeListener = (cause: string | undefined) => void

/**
 * One GET on a connection of its own. Calls back once, unless it is cancelled by the function that
 * it gives. The head decides; the body is read, so that the target is not cut off, but not longer
 * than the timeout.
 */
export function sendProbe(origin: Origin, rule: ProbeRule, listener: ProbeListener): () => void {
  const send = origin.isTls ? httpsRequest : httpRequest
  let isDone = false
  const settle = (cause: string | undefined): void => {
    if (isDone) return
    isDone = true
    listener(cause)
  }
  const probe = send({
    ...toConnectOptions(origin),
    agent: false,
    method: 'GET',
    path: rule.path,
    headers: [
      'Host',
      rule.host ?? origin.authority,
      'User-Agent',
      'dripgate-health-check',
      'Connection',
      'close',
    ],
    maxHeaderSize: 64 * 1024,
  })
  const timer = setTimeout(() => {
    settle(`no answer within ${rule.timeoutMs} ms`)
    probe.destroy()
  }, rule.timeoutMs)
  const onAnswer = (answer: IncomingMessage): void => {
    const status = answer.statusCode ?? 0
    settle(rule.isGood(status) ? undefined : `status ${status}`)
    answer.on('error', () => {})
    answer.resume()
  }
  probe.on('response', onAnswer)
  probe.on('upgrade', (_answer, socket) => {
    settle('unwanted upgrade')
    socket.destroy()
  })
  probe.on('error', (error) => settle(error.message))
  probe.on('close', () => {
    clearTimeout(timer)
    settle('connection closed')
  })
  probe.end()
  return () => {
    isDone = true
    clearTimeout(timer)
    probe.destroy()
  }
}
