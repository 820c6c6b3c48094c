import { createHash, createPrivateKey, randomBytes, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Config } from './config/schema.ts'
import { errorText } from './domain/errors.ts'
import type { Logger } from './ports/runtime.ts'
import type { PemPair, TlsMaterial } from './ports/tls.ts'

/*
 * The certificates of the gateway listener, on the control thread: read at the start, read again on
 * a reload and every `reload_interval`, and handed to all threads when they have changed. Looking at
 * the contents, rather than being told of changes, also sees what is behind swapped symbolic links
 * and network file systems.
 */

/** Session tickets made with a key older than this cannot be resumed, nor read by who steals it later. */
const TICKET_KEYS_MS = 12 * 60 * 60 * 1000
const TICKET_KEY_BYTES = 48

type TlsConfig = NonNullable<Config['gateway']['tls']>

export interface CertificateFigure {
  /** The file, as the configuration names it. */
  readonly file: string
  /** Seconds since the epoch. */
  readonly expiresAt: number
}

export interface CertificatesOptions {
  readonly config: Config
  readonly logger: Logger
  /** The certificates in force, when they have changed. */
  readonly onFigures: (figures: readonly CertificateFigure[]) => void
  /** Whether what the files hold now is in force. */
  readonly onOutcome: (isGood: boolean) => void
}

export interface Certificates {
  readonly material: TlsMaterial | undefined
  /** Has changes handed out; before, they are only kept. */
  start(onChange: (material: TlsMaterial) => void): void
  /** Reads what the new configuration names; what is unfit is logged, and the old goes on. */
  configure(config: Config): void
  close(): void
}

/** Throws an `Error` for people where a file cannot be read or is unfit. */
export function openCertificates(options: CertificatesOptions): Certificates {
  const { logger } = options
  let tls = options.config.gateway.tls
  let files = tls && readFiles(tls)
  let material: TlsMaterial | undefined
  let ticketKeys: Uint8Array = randomBytes(TICKET_KEY_BYTES)
  let onChange: ((material: TlsMaterial) => void) | undefined
  let watch: NodeJS.Timeout | undefined
  /** What the last look saw, where it is not what is in force. */
  let pending = ''
  /** What was found unfit, so that it is told once. */
  let refused = ''

  const rotation = setInterval(() => {
    ticketKeys = randomBytes(TICKET_KEY_BYTES)
    if (tls !== undefined && files !== undefined) publish(tls, files)
  }, TICKET_KEYS_MS).unref()

  function publish(tls: TlsConfig, files: TlsFiles): void {
    material = toMaterial(tls, files, ticketKeys)
    options.onFigures(listFigures(tls, files))
    options.onOutcome(true)
    onChange?.(material)
  }

  function refuse(error: unknown, digest: string): void {
    options.onOutcome(false)
    if (refused === digest) return
    refused = digest
    logger.error('changed certificates are unfit; the old ones stay in force', { error: errorText(error) })
  }

  function look(): void {
    if (tls === undefined) return
    let found: TlsFiles
    try {
      found = readFiles(tls)
    } catch (error) {
      refuse(error, errorText(error))
      return
    }
    if (found.digest === files?.digest) {
      if (refused !== '') options.onOutcome(true)
      pending = refused = ''
    } else if (found.digest !== pending) {
      // A certificate and its key are two files: whoever writes them gets a moment to finish.
      pending = found.digest
    } else {
      take(tls, found)
    }
  }

  function take(next: TlsConfig, found: TlsFiles): void {
    try {
      assertFit(next, found)
      const expired = findExpired(listFigures(next, found))
      if (expired !== undefined) throw new Error(`the certificate in ${expired.file} has expired`)
    } catch (error) {
      refuse(error, found.digest)
      return
    }
    tls = next
    files = found
    pending = refused = ''
    publish(next, found)
    logger.info('certificates reloaded', { certificates: listFigures(next, found).map(({ file }) => file) })
  }

  function schedule(): void {
    clearInterval(watch)
    const intervalMs = tls?.reload_interval ?? 0
    watch = intervalMs > 0 ? setInterval(look, intervalMs).unref() : undefined
  }

  if (tls !== undefined && files !== undefined) {
    assertFit(tls, files)
    publish(tls, files)
    const expired = findExpired(listFigures(tls, files))
    if (expired !== undefined) logger.error('a certificate has expired', { file: expired.file })
  }
  return {
    get material() {
      return material
    },
    start(listener) {
      onChange = listener
      schedule()
    },
    configure({ gateway }) {
      if (gateway.tls === undefined || tls === undefined) return
      try {
        const found = readFiles(gateway.tls)
        const isSame = found.digest === files?.digest && isEqual(gateway.tls, tls)
        if (!isSame) take(gateway.tls, found)
      } catch (error) {
        refuse(error, errorText(error))
      }
      schedule()
    },
    close() {
      clearInterval(watch)
      clearInterval(rotation)
    },
  }
}

interface TlsFiles {
  readonly pairs: readonly { readonly cert: string; readonly key: string }[]
  readonly clientCa: string | undefined
  readonly digest: string
}

function readFiles(tls: TlsConfig): TlsFiles {
  const pairs = tls.certificates.map(({ cert, key }) => ({ cert: readPem(cert), key: readPem(key) }))
  const clientCa = tls.client_ca === undefined ? undefined : readPem(tls.client_ca)
  const digest = createHash('sha256')
    .update(JSON.stringify([pairs, clientCa]))
    .digest('hex')
  return { pairs, clientCa, digest }
}

function readPem(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new Error(`${file} cannot be read: ${errorText(error)}`, { cause: error })
  }
}

function assertFit(tls: TlsConfig, { pairs, clientCa }: TlsFiles): void {
  for (const [index, { cert, key }] of tls.certificates.entries()) {
    const pem = pairs[index]
    const certificate = parsePem(pem?.cert ?? '', cert, 'certificate', (text) => new X509Certificate(text))
    const privateKey = parsePem(pem?.key ?? '', key, 'private key without passphrase', createPrivateKey)
    if (!certificate.checkPrivateKey(privateKey)) {
      throw new Error(`${key} does not belong to the certificate in ${cert}`)
    }
  }
  if (clientCa !== undefined && tls.client_ca !== undefined) {
    parsePem(clientCa, tls.client_ca, 'certificate', (text) => new X509Certificate(text))
  }
}

function findExpired(figures: readonly CertificateFigure[]): CertificateFigure | undefined {
  return figures.find(({ expiresAt }) => expiresAt < Date.now() / 1000)
}

function parsePem<T>(pem: string, file: string, what: string, parse: (pem: string) => T): T {
  try {
    return parse(pem)
  } catch (cause) {
    throw new Error(`${file} does not hold a PEM ${what}`, { cause })
  }
}

function toMaterial(tls: TlsConfig, files: TlsFiles, ticketKeys: Uint8Array): TlsMaterial {
  const certificates: readonly PemPair[] = files.pairs
  return { certificates, minVersion: tls.min_version, clientCa: files.clientCa, ticketKeys }
}

function listFigures(tls: TlsConfig, { pairs }: TlsFiles): CertificateFigure[] {
  return tls.certificates.map(({ cert: file }, index) => {
    const { validTo } = new X509Certificate(pairs[index]?.cert ?? '')
    return { file, expiresAt: Date.parse(validTo) / 1000 }
  })
}

function isEqual(a: TlsConfig, b: TlsConfig): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
