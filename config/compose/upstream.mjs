// The upstream of compose.yaml: answers every request with what it received.
import { createServer } from 'node:http'

const server = createServer((request, response) => {
  request.resume()
  const { method, url, headers } = request
  response.setHeader('Content-Type', 'application/json')
  response.end(`${JSON.stringify({ hello: 'from the demo upstream', method, url, headers }, null, 2)}\n`)
})
server.listen(9000)
process.on('SIGTERM', () => server.close(() => process.exit(0)))
