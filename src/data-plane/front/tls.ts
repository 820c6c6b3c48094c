import { constants, X509Certificate } from 'node:crypto'
import {
  createSecureContext,
  type SecureContext,
  type SecureContextOptions,
  type Server,
  type TlsOptions,
} from 'node:tls'
import type { PemPair, TlsMaterial } from '../../ports/tls.ts'

/** Forward secrecy and authenticated encryption, which HTTP/2 asks for too (RFC 9113 section 9.2.2). */
const CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':')

/** What a name in a certificate may look like; anything else in the list of names is passed over. */
const DNS_ENTRY = /^dns:((?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)$/

/** TLS of one listener: the certificate for each name, replaceable while connections run. */
export class TlsTermination {
  readonly #offersHttp2: boolean
  #material: TlsMaterial
  #contexts: ContextTable

  /** Throws where a certificate or key is no PEM, or one does not belong to the other. */
  constructor(material: TlsMaterial, offersHttp2: boolean) {
    this.#offersHttp2 = offersHttp2
    this.#material = material
    this.#contexts = createContextTable(material)
  }

  /** For the server that this is the TLS of. */
  toServerOptions(handshakeTimeoutMs: number): TlsOptions {
    return {
      ...toContextOptions(this.#material, this.#material.certificates[0]),
      ticketKeys: Buffer.from(this.#material.ticketKeys),
      ALPNProtocols: this.#offersHttp2 ? ['h2', 'http/1.1'] : ['http/1.1'],
      handshakeTimeout: handshakeTimeoutMs,
      requestCert: this.#material.clientCa !== undefined,
      rejectUnauthorized: true,
      // `undefined` leaves the first certificate in place.
      SNICallback: (name, callback) => callback(null, this.#contexts.find(name)),
    }
  }

  /**
   * Connections that begin from now on get these; those that run keep what they began with. Throws,
   * having changed nothing, like the constructor. Whether clients need certificates stays as it was.
   */
  replace(server: Server, material: TlsMaterial): void {
    const contexts = createContextTable(material)
    server.setSecureContext({
      ...toContextOptions(material, material.certificates[0]),
      ticketKeys: Buffer.from(material.ticketKeys),
    })
    this.#material = material
    this.#contexts = contexts
  }
}

interface ContextTable {
  find(name: string): SecureContext | undefined
}

function createContextTable(material: TlsMaterial): ContextTable {
  const exact = new Map<string, SecureContext>()
  /** By what stands behind the `*`, which takes the place of one label (RFC 6125 section 6.4.3). */
  const wildcards = new Map<string, SecureContext>()
  for (const pair of material.certificates) {
    const context = createSecureContext(toContextOptions(material, pair))
    for (const name of listNames(pair)) {
      const [table, key] = name.startsWith('*.') ? [wildcards, name.slice(1)] : [exact, name]
      if (!table.has(key)) table.set(key, context)
    }
  }
  return {
    find(name) {
      const lower = name.toLowerCase()
      const dot = lower.indexOf('.')
      return exact.get(lower) ?? (dot > 0 ? wildcards.get(lower.slice(dot)) : undefined)
    },
  }
}

function toContextOptions(material: TlsMaterial, pair: PemPair | undefined): SecureContextOptions {
  return {
    cert: pair?.cert,
    key: pair?.key,
    ca: material.clientCa,
    minVersion: material.minVersion,
    ciphers: CIPHERS,
    // A client knows best which of these its machine is quick at.
    honorCipherOrder: false,
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
    sessionIdContext: 'dripgate',
  }
}

function listNames({ cert }: PemPair): string[] {
  const entries = new X509Certificate(cert).subjectAltName?.toLowerCase().split(', ') ?? []
  return entries.flatMap((entry) => DNS_ENTRY.exec(entry)?.[1] ?? [])
}
