import type { StartGateway } from '../support/proxy-gateway.ts'
import { describeAnswers } from './proxy-answers.ts'
import { describeDrain } from './proxy-drain.ts'
import { describeForwarding } from './proxy-forwarding.ts'
import { describeLimits } from './proxy-limits.ts'
import { describeStreaming } from './proxy-streaming.ts'
import { describeTargets } from './proxy-targets.ts'
import { describeWebSockets } from './proxy-web-sockets.ts'

export interface ProxyUnderTest {
  readonly startGateway: StartGateway
}

/** What every pair of a front and an upstream client must do. */
export function describeProxy(name: string, proxy: ProxyUnderTest): void {
  describeForwarding(name, proxy)
  describeAnswers(name, proxy)
  describeStreaming(name, proxy)
  describeLimits(name, proxy)
  describeTargets(name, proxy)
  describeWebSockets(name, proxy)
  describeDrain(name, proxy)
}
