import proxy from '@fastify/http-proxy'
import { fastify } from 'fastify'

/** @fastify/http-proxy alone, with undici's pool of connections: it forwards and does nothing else. */

const [port, upstreamPort] = process.argv.slice(2).map(Number)
const server = fastify({ bodyLimit: 4 * 1024 * 1024 })
await server.register(proxy, {
  upstream: `http://127.0.0.1:${upstreamPort}`,
  undici: { connections: 512, pipelining: 1 },
})
await server.listen({ port: port ?? 0, host: '127.0.0.1' })
