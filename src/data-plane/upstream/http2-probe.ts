import type { ProbeListener, ProbeRule } from './health-probe.ts'
import { readAnswerFields } from './http2-fields.ts'
import { Http2Link } from './http2-link.ts'
import type { Origin } from './origin.ts'

/** The same as `sendProbe`, for targets that speak HTTP/2. */
export function sendHttp2Probe(origin: Origin, rule: ProbeRule, listener: ProbeListener): () => void {
  const link = new Http2Link(origin, () => {})
  let isDone = false
  const cancel = (): void => {
    isDone = true
    clearTimeout(timer)
    link.destroy()
  }
  const settle = (cause: string | undefined): void => {
    if (isDone) return
    cancel()
    listener(cause)
  }
  const timer = setTimeout(() => settle(`no answer within ${rule.timeoutMs} ms`), rule.timeoutMs)
  const head = [
    ...[':method', 'GET', ':scheme', origin.isTls ? 'https' : 'http'],
    ...[':authority', rule.host ?? origin.authority, ':path', rule.path],
    ...['user-agent', 'dripgate-health-check'],
  ]
  link.await({
    onLink: () => {
      const stream = link.request(head, false)
      stream.on('response', (_fields, _flags, raw) => {
        const { status } = readAnswerFields(raw)
        settle(rule.isGood(status) ? undefined : `status ${status}`)
      })
      stream.on('error', (error) => settle(error.message))
      stream.on('close', () => settle('connection closed'))
    },
    onNoLink: (error) => settle(error.message),
  })
  return cancel
}
