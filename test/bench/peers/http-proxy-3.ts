import { Agent, createServer } from 'node:http'
import { createProxyServer } from 'http-proxy-3'

/** http-proxy-3 alone, with a pool of connections: it forwards and does nothing else. */

const [port, upstreamPort] = process.argv.slice(2).map(Number)
const agent = new Agent({ keepAlive: true, maxSockets: 512, maxFreeSockets: 512 })
const proxy = createProxyServer({ target: `http://127.0.0.1:${upstreamPort}`, agent })
proxy.on('error', () => {})
createServer((request, answer) => proxy.web(request, answer)).listen(port, '127.0.0.1')
