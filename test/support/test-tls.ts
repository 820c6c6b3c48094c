import { readFileSync } from 'node:fs'

const FOLDER = new URL('./tls/', import.meta.url)

/** The authority that signed the certificate of `TEST_TLS`. */
export const CA_FILE = new URL('ca.pem', FOLDER).pathname

/** For `origin.test` and `127.0.0.1`. */
export const TEST_TLS = {
  cert: readFileSync(new URL('server.pem', FOLDER)),
  key: readFileSync(new URL('server-key.pem', FOLDER)),
}
