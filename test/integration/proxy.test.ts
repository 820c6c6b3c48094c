import { startNodeGateway } from '../support/proxy-gateway.ts'
import { describeProxy } from './proxy-behaviour.ts'

describeProxy('node:http front, undici upstream', { startGateway: startNodeGateway })
