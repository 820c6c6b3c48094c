import type { Front } from '../../ports/transport.ts'
import type { Engine } from '../engines.ts'
import type { FrontOptions } from './front-options.ts'
import { openNodeFront } from './node-http.ts'
import { openRawFront } from './raw-http1.ts'

/** Opens the listener for clients. Rejects where the address cannot be bound. */
export function openFront(engine: Engine, options: FrontOptions): Promise<Front> {
  return engine === 'raw' ? openRawFront(options) : openNodeFront(options)
}
