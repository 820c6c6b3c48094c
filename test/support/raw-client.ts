import { connect, type Socket } from 'node:net'

/*
 * A client that writes bytes as they are and reads answers with a parser of its own, which is
 * strict: what it cannot read is an error, not a guess.
 */

export interface RawAnswer {
  readonly status: number
  readonly reason: string
  readonly rawHeaders: readonly string[]
  readonly headers: ReadonlyMap<string, string>
  readonly body: Buffer
  readonly trailers: ReadonlyMap<string, string>
  /** How the body ended. */
  readonly framing: 'none' | 'length' | 'chunked' | 'close'
}

export interface RawClientOptions {
  readonly allowHalfOpen?: boolean
  /** One of 127.0.0.0/8, to come from elsewhere. */
  readonly localAddress?: string
}

const WAIT_MS = 10_000

export class RawClient {
  readonly socket: Socket
  #received = Buffer.alloc(0)
  #isEnded = false
  #isClosed = false
  #error: Error | undefined
  readonly #waiters = new Set<() => void>()

  constructor(port: number, { allowHalfOpen = false, localAddress = '127.0.0.1' }: RawClientOptions = {}) {
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen, localAddress })
    this.socket.on('data', (chunk) => {
      this.#received = Buffer.concat([this.#received, chunk])
      this.#wake()
    })
    this.socket.on('end', () => {
      this.#isEnded = true
      this.#wake()
    })
    this.socket.on('error', (error) => {
      this.#error = error
    })
    this.socket.on('close', () => {
      this.#isClosed = true
      this.#wake()
    })
  }

  get received(): string {
    return this.#received.toString('latin1')
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  get error(): Error | undefined {
    return this.#error
  }

  write(...parts: (string | Buffer)[]): void {
    for (const part of parts) this.socket.write(typeof part === 'string' ? Buffer.from(part, 'latin1') : part)
  }

  /** Sends head lines, ended by an empty line. */
  send(...lines: string[]): void {
    this.write(`${lines.join('\r\n')}\r\n\r\n`)
  }

  async closed(): Promise<void> {
    await this.#until('close', () => this.#isClosed || undefined)
  }

  /** Everything up to the end of the connection. */
  async readAll(): Promise<string> {
    await this.#until('end', () => this.#isEnded || this.#isClosed || undefined)
    return this.received
  }

  /** Resolves once the bytes received contain the text; takes nothing away. */
  async sees(text: string): Promise<void> {
    await this.#until(`"${text}"`, () => this.received.includes(text) || undefined)
  }

  /** Takes the next answer's head only, informational ones too. */
  async readHead(): Promise<Omit<RawAnswer, 'body' | 'trailers' | 'framing'>> {
    return await this.#until('head', () => {
      const end = this.#received.indexOf('\r\n\r\n')
      if (end < 0) return undefined
      const lines = this.#received.toString('latin1', 0, end).split('\r\n')
      this.#received = this.#received.subarray(end + 4)
      return parseHead(lines)
    })
  }

  async readBytes(count: number): Promise<Buffer> {
    return await this.#until(`${count} bytes`, () => {
      if (this.#received.length < count) return undefined
      const bytes = this.#received.subarray(0, count)
      this.#received = this.#received.subarray(count)
      return bytes
    })
  }

  async readLine(): Promise<string> {
    return await this.#until('line', () => {
      const end = this.#received.indexOf('\r\n')
      if (end < 0) return undefined
      const line = this.#received.toString('latin1', 0, end)
      this.#received = this.#received.subarray(end + 2)
      return line
    })
  }

  /** Takes the next answer, final or informational. */
  async readAnswer(method = 'GET'): Promise<RawAnswer> {
    const head = await this.readHead()
    const { status, headers } = head
    const nothing = { body: Buffer.alloc(0), trailers: new Map<string, string>() }
    if (status < 200 || status === 204 || status === 304 || method === 'HEAD') {
      return { ...head, ...nothing, framing: 'none' }
    }
    if (headers.get('transfer-encoding') === 'chunked') {
      return { ...head, ...(await this.#readChunks()), framing: 'chunked' }
    }
    const length = headers.get('content-length')
    if (length !== undefined) {
      if (!/^\d+$/.test(length)) throw new Error(`bad Content-Length ${length}`)
      return { ...head, ...nothing, body: await this.readBytes(Number(length)), framing: 'length' }
    }
    await this.#until('end', () => this.#isEnded || this.#isClosed || undefined)
    if (this.#error !== undefined) throw this.#error
    const body = this.#received
    this.#received = Buffer.alloc(0)
    return { ...head, ...nothing, body, framing: 'close' }
  }

  /** Half-closes: says that no more will be sent. */
  end(): void {
    this.socket.end()
  }

  destroy(): void {
    this.socket.destroy()
  }

  /** Ends the connection with RST. */
  reset(): void {
    this.socket.resetAndDestroy()
  }

  async #readChunks(): Promise<{ body: Buffer; trailers: ReadonlyMap<string, string> }> {
    const chunks: Buffer[] = []
    for (;;) {
      const line = await this.readLine()
      if (!/^[0-9a-f]+$/i.test(line)) throw new Error(`bad chunk size "${line}"`)
      const size = Number.parseInt(line, 16)
      if (size === 0) break
      chunks.push(await this.readBytes(size))
      if ((await this.readLine()) !== '') throw new Error('a chunk without its end')
    }
    const trailers = new Map<string, string>()
    for (let line = await this.readLine(); line !== ''; line = await this.readLine()) {
      const colon = line.indexOf(':')
      trailers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim())
    }
    return { body: Buffer.concat(chunks), trailers }
  }

  async #until<T>(what: string, attempt: () => T | undefined): Promise<T> {
    const deadline = Date.now() + WAIT_MS
    for (;;) {
      const result = attempt()
      if (result !== undefined) return result
      if (this.#isClosed)
        throw new Error(`closed while waiting for ${what}; received: ${this.received.slice(0, 500)}`)
      await this.#nextEvent(deadline - Date.now(), what)
    }
  }

  #nextEvent(withinMs: number, what: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`no ${what} in time; received: ${this.received.slice(0, 500)}`)),
        Math.max(0, withinMs),
      )
      this.#waiters.add(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }

  #wake(): void {
    const waiters = [...this.#waiters]
    this.#waiters.clear()
    for (const waiter of waiters) waiter()
  }
}

export function connectRaw(port: number, options?: RawClientOptions): RawClient {
  return new RawClient(port, options)
}

/** One request on a connection of its own, which is closed afterwards. */
export async function requestOnce(port: number, lines: readonly string[], body = ''): Promise<RawAnswer> {
  const client = connectRaw(port)
  try {
    client.send(...lines)
    if (body !== '') client.write(body)
    return await client.readAnswer(lines[0]?.split(' ')[0])
  } finally {
    client.destroy()
  }
}

function parseHead(lines: readonly string[]): Omit<RawAnswer, 'body' | 'trailers' | 'framing'> {
  const match = /^HTTP\/1\.1 (\d{3}) (.*)$/.exec(lines[0] ?? '')
  if (match === null) throw new Error(`not a status line: ${lines[0]}`)
  const rawHeaders: string[] = []
  const headers = new Map<string, string>()
  for (const line of lines.slice(1)) {
    const colon = line.indexOf(':')
    const name = line.slice(0, colon)
    const value = line.slice(colon + 1).trim()
    rawHeaders.push(name, value)
    const before = headers.get(name.toLowerCase())
    headers.set(name.toLowerCase(), before === undefined ? value : `${before}, ${value}`)
  }
  return { status: Number(match[1]), reason: match[2] ?? '', rawHeaders, headers }
}
