import { createSocket } from 'node:dgram'
import { isIPv4 } from 'node:net'

/** A DNS server of its own for a test: A and AAAA records, over UDP. */
export interface DnsServer {
  /** As in `gateway.dns.servers`. */
  readonly address: string
  /** By name. Without an entry: no such name. */
  readonly records: Map<string, { readonly addresses: readonly string[]; readonly ttl: number }>
  /** While it is set, all questions get SERVFAIL. */
  isBroken: boolean
  questions: number
  close(): Promise<void>
}

const TYPE_A = 1
const TYPE_AAAA = 28

export async function startDnsServer(): Promise<DnsServer> {
  const socket = createSocket('udp4')
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve))
  const server: DnsServer = {
    address: `127.0.0.1:${socket.address().port}`,
    records: new Map(),
    isBroken: false,
    questions: 0,
    close: () => new Promise((resolve) => socket.close(() => resolve())),
  }
  socket.on('message', (query, peer) => {
    server.questions++
    socket.send(answerTo(query, server), peer.port, peer.address)
  })
  return server
}

function answerTo(query: Buffer, server: DnsServer): Buffer {
  const { name, end, type } = readQuestion(query)
  const entry = server.records.get(name)
  const rcode = server.isBroken ? 2 : entry === undefined ? 3 : 0
  const wanted = (entry?.addresses ?? []).filter((address) => isIPv4(address) === (type === TYPE_A))
  const found = rcode === 0 && (type === TYPE_A || type === TYPE_AAAA) ? wanted : []
  const head = Buffer.alloc(12)
  query.copy(head, 0, 0, 2)
  head.writeUInt16BE(0x8180 | rcode, 2)
  head.writeUInt16BE(1, 4)
  head.writeUInt16BE(found.length, 6)
  return Buffer.concat([
    head,
    query.subarray(12, end),
    ...found.map((each) => toRecord(each, type, entry?.ttl ?? 0)),
  ])
}

function readQuestion(query: Buffer): { name: string; end: number; type: number } {
  const labels: string[] = []
  let at = 12
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 }
}

function toRecord(address: string, type: number, ttl: number): Buffer {
  const data = isIPv4(address) ? Buffer.from(address.split('.').map(Number)) : toIpv6Bytes(address)
  const head = Buffer.alloc(12)
  // The name is that of the question.
  head.writeUInt16BE(0xc00c, 0)
  head.writeUInt16BE(type, 2)
  head.writeUInt16BE(1, 4)
  head.writeUInt32BE(ttl, 6)
  head.writeUInt16BE(data.length, 10)
  return Buffer.concat([head, data])
}

/** Only the short form of loopback and the like: `::1`. */
function toIpv6Bytes(address: string): Buffer {
  const bytes = Buffer.alloc(16)
  bytes[15] = Number.parseInt(address.slice(2), 16)
  return bytes
}
