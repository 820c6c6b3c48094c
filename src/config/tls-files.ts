import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { toFinding } from './checks.ts'
import { type Finding, getMember } from './explain.ts'
import type { Path } from './source.ts'
import { describeFileError } from './substitute.ts'

type ReadFile = (path: string) => string

/** Whether the PEM files that the configuration names are there, can be read, and belong together. */
export function checkTlsFiles(raw: unknown, readFile: ReadFile): Finding[] {
  const findings: Finding[] = []
  const cert = readPem(raw, ['gateway', 'tls', 'cert'], { readFile, findings, parse: parseCertificate })
  const key = readPem(raw, ['gateway', 'tls', 'key'], { readFile, findings, parse: createPrivateKey })
  if (cert !== undefined && key !== undefined && !cert.checkPrivateKey(key)) {
    findings.push(
      toFinding(['gateway', 'tls', 'key'], 'does not belong to the certificate of gateway.tls.cert'),
    )
  }
  const upstreams = getMember(raw, 'upstreams')
  for (const name of Object.keys(Object(upstreams))) {
    readPem(raw, ['upstreams', name, 'tls', 'ca'], { readFile, findings, parse: parseCertificate })
  }
  return findings
}

function parseCertificate(pem: string): X509Certificate {
  return new X509Certificate(pem)
}

function readPem<T extends X509Certificate | KeyObject>(
  raw: unknown,
  path: Path,
  context: {
    readonly readFile: ReadFile
    readonly findings: Finding[]
    readonly parse: (pem: string) => T
  },
): T | undefined {
  const file = path.reduce(getMember, raw)
  if (typeof file !== 'string' || file === '') return undefined
  const { readFile, findings, parse } = context
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
