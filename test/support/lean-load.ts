import { connect, createServer, type Socket } from 'node:net'

/*
 * The well-behaved half of a soak: clients and an upstream that cost as little as they can, so that the
 * gateway is what is measured and not Node's own client.
 */

const BODY = 'x'.repeat(1024)
const ANSWER = Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY}`)
const HEAD_END = '\r\n\r\n'
const READ_BYTES = 64 * 1024

/** Answers each GET with 1 KiB, at once. */
export async function startLeanUpstream(): Promise<{ port: number; close(): Promise<void> }> {
  const sockets = new Set<Socket>()
  const server = createServer({ noDelay: true }, (socket) => {
    let held = ''
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {})
    socket.setEncoding('latin1').on('data', (text: string) => {
      held += text
      if (!held.endsWith(HEAD_END)) return
      held = ''
      socket.write(ANSWER)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    close: () => {
      for (const socket of sockets) socket.destroy()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}

/** Clients that keep their connections, with one request at a time on each. */
export class LeanClients {
  /** How long the answers took, from the time at which their requests were due. */
  times: number[] = []
  /** Answers that were not the upstream's 1 KiB, and connections that broke. */
  wrong = 0
  /** Requests without an answer yet. */
  pending = 0
  readonly #port: number
  readonly #connectionsMax: number
  readonly #request: string
  readonly #idle: LeanClient[] = []
  readonly #clients = new Set<LeanClient>()
  readonly #waiting: number[] = []

  constructor(port: number, connectionsMax: number) {
    this.#port = port
    this.#connectionsMax = connectionsMax
    this.#request = `GET /good HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUser-Agent: soak\r\nAccept: */*\r\n\r\n`
  }

  /** Sends a request that was due at `dueMs`; it waits where all connections are busy. */
  send(dueMs: number): void {
    this.pending++
    const client = this.#idle.pop() ?? this.#open()
    if (client === undefined) this.#waiting.push(dueMs)
    else client.send(this.#request, dueMs)
  }

  /** Requests on all connections, one after another; how many were answered in a second. */
  async measurePeak(seconds: number): Promise<number> {
    for (let i = 0; i < this.#connectionsMax; i++) this.send(performance.now())
    const endMs = performance.now() + seconds * 1000
    const before = this.times.length
    while (performance.now() < endMs) {
      while (this.pending < this.#connectionsMax * 2) this.send(performance.now())
      await new Promise((resolve) => setImmediate(resolve))
    }
    const peak = (this.times.length - before) / seconds
    while (this.pending > 0) await new Promise((resolve) => setTimeout(resolve, 10))
    this.times = []
    return peak
  }

  close(): void {
    for (const client of this.#clients) client.destroy()
  }

  #open(): LeanClient | undefined {
    if (this.#clients.size >= this.#connectionsMax) return undefined
    const client = new LeanClient(this.#port, {
      onAnswer: (isRight, dueMs) => {
        this.pending--
        this.times.push(performance.now() - dueMs)
        if (!isRight) this.wrong++
        const next = this.#waiting.shift()
        if (next === undefined) this.#idle.push(client)
        else client.send(this.#request, next)
      },
      onBroken: (wasBusy) => {
        this.#clients.delete(client)
        const at = this.#idle.indexOf(client)
        if (at >= 0) this.#idle.splice(at, 1)
        if (!wasBusy) return
        this.pending--
        this.wrong++
        const next = this.#waiting.shift()
        if (next !== undefined) this.#open()?.send(this.#request, next)
      },
    })
    this.#clients.add(client)
    return client
  }
}

interface Owner {
  onAnswer(isRight: boolean, dueMs: number): void
  onBroken(wasBusy: boolean): void
}

class LeanClient {
  readonly #socket: Socket
  readonly #owner: Owner
  #dueMs = -1
  #isClosing = false
  /** Of the answer so far, until its head is complete. */
  #head = ''
  #bodyLeft = -1
  #isRight = true

  constructor(port: number, owner: Owner) {
    this.#owner = owner
    const buffer = Buffer.allocUnsafeSlow(READ_BYTES)
    this.#socket = connect({
      ...{ port, host: '127.0.0.1', noDelay: true },
      onread: {
        buffer,
        callback: (length) => {
          this.#take(buffer.toString('latin1', 0, length))
          return true
        },
      },
    })
    this.#socket.on('error', () => {})
    this.#socket.once('close', () => {
      if (!this.#isClosing) owner.onBroken(this.#dueMs >= 0)
    })
  }

  send(request: string, dueMs: number): void {
    this.#dueMs = dueMs
    this.#head = ''
    this.#bodyLeft = -1
    this.#socket.write(request, 'latin1')
  }

  destroy(): void {
    this.#isClosing = true
    this.#socket.destroy()
  }

  #take(text: string): void {
    if (this.#bodyLeft >= 0) {
      this.#takeBody(text)
      return
    }
    this.#head += text
    const end = this.#head.indexOf(HEAD_END)
    if (end < 0) return
    const head = this.#head.slice(0, end)
    const body = this.#head.slice(end + HEAD_END.length)
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? Number.NaN)
    this.#isRight = head.startsWith('HTTP/1.1 200 ') && length === BODY.length
    this.#bodyLeft = length
    this.#takeBody(body)
  }

  #takeBody(text: string): void {
    if (text.length > this.#bodyLeft || this.#dueMs < 0 || !BODY.startsWith(text)) this.#isRight = false
    this.#bodyLeft -= text.length
    // What cannot be understood is never complete.
    if (!(this.#bodyLeft <= 0)) {
      if (Number.isNaN(this.#bodyLeft)) this.#socket.destroy()
      return
    }
    const dueMs = this.#dueMs
    this.#dueMs = -1
    this.#owner.onAnswer(this.#isRight, dueMs)
  }
}
