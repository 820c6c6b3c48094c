import type { ClientHttp2Session } from 'node:http2'
import { afterEach, expect } from 'vitest'
import type { ProxyUnderTest } from '../integration/proxy-behaviour.ts'
import { useCleanup } from './cleanup.ts'
import { connectFrames, type FrameClient } from './http2-frames.ts'
import type { GatewaySettings, TestGateway } from './proxy-gateway.ts'
import { connectRaw, type RawClient } from './raw-client.ts'
import type { Upstream } from './upstreams.ts'

/** The usual set-up of a test: an upstream, a gateway before it, clients; all closed afterwards. */
export function useProxy({ startGateway }: ProxyUnderTest) {
  const cleanup = useCleanup()
  const gateways: TestGateway[] = []

  afterEach(() => {
    // Whatever a test did to it, the gateway itself never failed.
    for (const gateway of gateways.splice(0)) expect(gateway.errors).toEqual([])
  })

  return {
    upstream: <T extends Pick<Upstream, 'close'>>(opening: Promise<T>): Promise<T> => cleanup.open(opening),
    gateway: async (settings: GatewaySettings): Promise<TestGateway> => {
      const gateway = await cleanup.open(startGateway(settings))
      gateways.push(gateway)
      return gateway
    },
    session: async (connecting: Promise<ClientHttp2Session>): Promise<ClientHttp2Session> => {
      const session = await connecting
      cleanup.later(() => session.destroy())
      return session
    },
    frames: async (gateway: TestGateway, settings?: Buffer<ArrayBuffer>): Promise<FrameClient> => {
      const client = await connectFrames(gateway.port, settings)
      cleanup.later(() => client.socket.destroy())
      return client
    },
    client: (gateway: TestGateway, options?: { readonly allowHalfOpen?: boolean }): RawClient => {
      const client = connectRaw(gateway.port, options)
      cleanup.later(() => client.destroy())
      return client
    },
  }
}
