import { connect, type TLSSocket } from 'node:tls'

/** HTTP/2 by hand, for clients that no library would play: frames over TLS, headers never indexed. */

export const FRAME = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const

export const FLAG = { endStream: 1, ack: 1, endHeaders: 4 } as const

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
const FRAME_HEAD_BYTES = 9

export interface Frame {
  readonly type: number
  readonly flags: number
  readonly stream: number
  readonly payload: Buffer
}

function encodeFrame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(FRAME_HEAD_BYTES)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

/** HPACK (RFC 7541 section 6.2.2): literals without indexing and without Huffman coding. */
export function encodeFields(...fields: readonly (readonly [string, string])[]): Buffer {
  return Buffer.concat(
    fields.flatMap(([name, value]) => [Buffer.from([0]), encodeText(name), encodeText(value)]),
  )
}

function encodeText(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1')
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes])
  const size = [127]
  let rest = bytes.length - 127
  for (; rest >= 128; rest >>>= 7) size.push((rest & 127) | 128)
  size.push(rest)
  return Buffer.concat([Buffer.from(size), bytes])
}

/** A request head; `more` comes behind the pseudo fields. */
export function encodeRequest(method: string, path: string, ...more: (readonly [string, string])[]): Buffer {
  return encodeFields(
    [':method', method],
    [':scheme', 'https'],
    [':authority', 'origin.test'],
    [':path', path],
    ...more,
  )
}

export class FrameClient {
  readonly socket: TLSSocket
  readonly frames: Frame[] = []
  isClosed = false
  /** Frames sent so far, and their bytes. */
  sent = 0
  sentBytes = 0
  #received = Buffer.alloc(0)

  constructor(socket: TLSSocket) {
    this.socket = socket
    socket.on('error', () => {})
    socket.on('close', () => {
      this.isClosed = true
    })
    socket.on('data', (chunk) => this.#read(chunk))
  }

  send(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): void {
    const bytes = encodeFrame(type, flags, stream, payload)
    this.sent++
    this.sentBytes += bytes.length
    this.socket.write(bytes)
  }

  /** Whether the other side has said that it ends the connection, or has ended it. */
  get isCutOff(): boolean {
    return this.isClosed || this.frames.some(({ type }) => type === FRAME.goAway)
  }

  find(type: number, stream: number): Frame | undefined {
    return this.frames.find((frame) => frame.type === type && frame.stream === stream)
  }

  /** Lets both sides have a turn. */
  breathe(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve))
  }

  #read(chunk: Buffer): void {
    this.#received = Buffer.concat([this.#received, chunk])
    while (this.#received.length >= FRAME_HEAD_BYTES) {
      const end = FRAME_HEAD_BYTES + this.#received.readUIntBE(0, 3)
      if (this.#received.length < end) return
      this.frames.push({
        type: this.#received.readUInt8(3),
        flags: this.#received.readUInt8(4),
        stream: this.#received.readUInt32BE(5) & 0x7fffffff,
        payload: Buffer.from(this.#received.subarray(FRAME_HEAD_BYTES, end)),
      })
      this.#received = this.#received.subarray(end)
    }
  }
}

/** Connects and exchanges settings; those given are sent as they are (RFC 9113 section 6.5.1). */
export async function connectFrames(port: number, settings = Buffer.alloc(0)): Promise<FrameClient> {
  const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols: ['h2'] })
  const client = new FrameClient(socket)
  await new Promise<void>((resolve, reject) => {
    socket.once('secureConnect', resolve)
    socket.once('error', reject)
  })
  socket.write(PREFACE)
  client.send(FRAME.settings, 0, 0, settings)
  return client
}
