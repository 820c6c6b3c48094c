import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { toFinding } from './checks.ts'
import { type Finding, getMember, toSubject } from './explain.ts'
import type { Path } from './source.ts'
import { describeFileError } from './substitute.ts'

type ReadFile = (path: string) => string

/** Whether the PEM files that the configuration names are there, can be read, and belong together. */
export function checkTlsFiles(raw: unknown, readFile: ReadFile): Finding[] {
  const findings: Finding[] = []
  const context = { raw, readFile, findings }
  const tls = getMember(getMember(raw, 'gateway'), 'tls')
  checkPair(context, ['gateway', 'tls'])
  const certificates = getMember(tls, 'certificates')
  const count = Array.isArray(certificates) ? certificates.length : 0
  for (let i = 0; i < count; i++) checkPair(context, ['gateway', 'tls', 'certificates', i])
  readPem(context, ['gateway', 'tls', 'client_ca'], parseCertificate)
  readPem(context, ['store', 'redis', 'ca'], parseCertificate)
  readPem(context, ['admin', 'script', 'redis', 'ca'], parseCertificate)
  for (const name of Object.keys(Object(getMember(raw, 'upstreams')))) {
    readPem(context, ['upstreams', name, 'tls', 'ca'], parseCertificate)
    checkPair(context, ['upstreams', name, 'tls'])
  }
  return findings
}

interface Context {
  readonly raw: unknown
  readonly readFile: ReadFile
  readonly findings: Finding[]
}

/** Of a certificate and its key, in one mapping of the configuration. */
function checkPair(context: Context, path: Path): void {
  const cert = readPem(context, [...path, 'cert'], parseCertificate)
  const key = readPem(context, [...path, 'key'], createPrivateKey)
  if (cert === undefined || key === undefined || cert.checkPrivateKey(key)) return
  const subject = toSubject([...path, 'cert'])
  context.findings.push(toFinding([...path, 'key'], `does not belong to the certificate of ${subject}`))
}

function parseCertificate(pem: string): X509Certificate {
  return new X509Certificate(pem)
}

function readPem<T extends X509Certificate | KeyObject>(
  { raw, readFile, findings }: Context,
  path: Path,
  parse: (pem: string) => T,
): T | undefined {
  const file = path.reduce(getMember, raw)
  if (typeof file !== 'string' || file === '') return undefined
  let pem: string
  try {
    pem = readFile(file)
  } catch (error) {
    findings.push(toFinding(path, `names a file that cannot be read: ${describeFileError(error)}`))
    return undefined
  }
  try {
    return parse(pem)
  } catch {
    const wanted = path.at(-1) === 'key' ? 'private key without passphrase' : 'certificate'
    findings.push(toFinding(path, `names a file that does not hold a PEM ${wanted}`))
    return undefined
  }
}
