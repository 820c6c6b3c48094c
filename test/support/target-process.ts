import { createServer } from 'node:http'

/*
 * A target in a process of its own, to be killed and stopped: node target-process.ts PORT. It says
 * where it listens, then `METHOD ID` for each request that arrived whole, and answers with its pid.
 */

const server = createServer((request, answer) => {
  request.resume()
  request.on('end', () => {
    if (request.url === '/health') return answer.end('ok')
    process.stdout.write(`${request.method} ${request.headers['x-id']}\n`)
    return answer.end(String(process.pid))
  })
})
server.keepAliveTimeout = 60_000
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  const address = server.address()
  process.stdout.write(`port ${typeof address === 'object' ? address?.port : ''}\n`)
})
