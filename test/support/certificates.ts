import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'

/** Whether certificates can be made. Under CI they must be: there the tests fail rather than skip. */
export const MAY_ISSUE = process.env['CI'] !== undefined || spawnSync('openssl', ['version']).status === 0

/** An authority made by openssl for one test, and certificates signed by it. */
export interface Authority {
  /** PEM file of its own certificate. */
  readonly file: string
  readonly pem: string
  /** Files `NAME.pem` and `NAME.key` in the authority's folder, for these names (`DNS:` or `IP:`). */
  issue(name: string, names: readonly string[], days?: number): IssuedFiles
}

export interface IssuedFiles {
  readonly cert: string
  readonly key: string
  /** As hex with colons, the way Node shows it. */
  readonly fingerprint: string
}

export function createAuthority(folder: string, name = 'authority'): Authority {
  mkdirSync(folder, { recursive: true })
  const at = (file: string) => path.join(folder, file)
  const key = at(`${name}.key`)
  const file = at(`${name}.pem`)
  openssl(
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc', '-days', '30'],
    ...['-subj', `/CN=${name}`, '-keyout', key, '-out', file],
  )
  return {
    file,
    pem: readFileSync(file, 'utf8'),
    issue(own, names, days = 30) {
      const files = { cert: at(`${own}.pem`), key: at(`${own}.key`) }
      const request = at(`${own}.csr`)
      const extensions = at(`${own}.ext`)
      writeFileSync(extensions, `subjectAltName=${names.join(',')}\n`)
      openssl(
        ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc'],
        ...['-subj', `/CN=${own}`, '-keyout', files.key, '-out', request],
      )
      openssl(
        ...['x509', '-req', '-in', request, '-CA', file, '-CAkey', key, '-CAcreateserial'],
        ...['-days', String(days), '-extfile', extensions, '-out', files.cert],
      )
      const shown = openssl('x509', '-noout', '-fingerprint', '-sha256', '-in', files.cert)
      return { ...files, fingerprint: shown.slice(shown.indexOf('=') + 1).trim() }
    },
  }
}

function openssl(...args: string[]): string {
  return execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}
