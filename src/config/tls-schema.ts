import { z } from 'zod'
import { durationField } from './units.ts'

const certField = () =>
  z.string().min(1).describe('PEM file of the certificate chain, the own certificate first.')
const keyField = () => z.string().min(1).describe('PEM file of the private key, without passphrase.')

/** TLS towards clients. */
export const gatewayTlsSchema = z
  .strictObject({
    cert: certField().optional(),
    key: keyField().optional(),
    certificates: z
      .array(z.strictObject({ cert: certField(), key: keyField() }))
      .min(1)
      .max(1000)
      .optional()
      .describe(
        'Instead of cert and key: several certificates. A client gets the one that holds the name it asks for (SNI), wildcards included, else the first.',
      ),
    min_version: z
      .enum(['TLSv1.2', 'TLSv1.3'])
      .default('TLSv1.2')
      .describe('Oldest version of TLS that a client may speak.'),
    client_ca: z
      .string()
      .min(1)
      .optional()
      .describe(
        'PEM file of authorities: clients must show a certificate that one of them has signed. Left out: clients need none.',
      ),
    reload_interval: durationField()
      .prefault('10s')
      .describe(
        'How often the files are looked at; changed ones are taken once they have stayed the same for one interval. 0: only when the configuration is reloaded.',
      ),
  })
  .superRefine(({ cert, key, certificates }, context) => {
    const message = 'must have either cert and key, or certificates'
    const hasPair = cert !== undefined && key !== undefined
    const hasHalf = (cert === undefined) !== (key === undefined)
    if (hasHalf || hasPair === (certificates !== undefined)) context.addIssue({ code: 'custom', message })
  })
  .transform(({ cert = '', key = '', certificates, ...rest }) => ({
    ...rest,
    certificates: certificates ?? [{ cert, key }],
  }))
