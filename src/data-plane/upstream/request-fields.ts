import type { UpstreamRequest } from '../../ports/transport.ts'

/** All fields of a request, in order. */
export function listFields({ steady, fresh }: UpstreamRequest): string[] {
  return [...steady.list, ...fresh]
}
