import { readFileSync } from 'node:fs'
import type { PemPair, TlsMaterial } from '../../src/ports/tls.ts'

const FOLDER = new URL('./tls/', import.meta.url)

/** The authority that signed the certificate of `TEST_TLS`. */
export const CA_FILE = new URL('ca.pem', FOLDER).pathname

/** For `origin.test` and `127.0.0.1`. */
export const TEST_TLS = {
  cert: readFileSync(new URL('server.pem', FOLDER)),
  key: readFileSync(new URL('server-key.pem', FOLDER)),
}

/** What a listener is opened with. */
export function createTlsMaterial(certificates: readonly PemPair[]): TlsMaterial {
  return { certificates, minVersion: 'TLSv1.2', clientCa: undefined, ticketKeys: Buffer.alloc(48, 7) }
}
